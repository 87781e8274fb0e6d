"""Heads: what all of them are (base.py), and the one that is a radiance field (radiance.py)."""

from radnerf.heads.base import Head
from radnerf.heads.radiance import RadianceHead

__all__ = ["Head", "RadianceHead"]
