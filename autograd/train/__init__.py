"""Training."""
from .data import ArrayDataset, DataError, Loader, Subset, as_loader, collate, split
from .images import ImageFolder
__all__ = ["ArrayDataset", "DataError", "ImageFolder", "Loader", "Subset", "as_loader", "collate", "split"]
