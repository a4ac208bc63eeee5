# The same commands for those who type make; everything is in make.py.
.PHONY: compare test check
compare test check:
	@python3 make.py $@
