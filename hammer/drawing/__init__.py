"""Pictures without a plotting library: charts as stand-alone SVG, images as PNG.

``svg`` has the shapes, ``style`` the colours, ``numbers`` prints numbers, ``panels`` puts line charts into one picture, ``raster`` makes
an image of an array. ``paper`` alone uses a library, matplotlib: it writes charts as PNG or PDF. The reports of ``hammer.lab`` and the pictures of other parts draw with them.
"""

from .panels import Line, Panel, picture
from .paper import printed, save
from .raster import colours, png

__all__ = ["Line", "Panel", "colours", "picture", "png", "printed", "save"]
