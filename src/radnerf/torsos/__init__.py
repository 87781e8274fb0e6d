"""Torsos: what all of them are (base.py), and the one that is a deformed plane (planar.py)."""

from radnerf.torsos.base import Torso
from radnerf.torsos.planar import PlanarTorso

__all__ = ["PlanarTorso", "Torso"]
