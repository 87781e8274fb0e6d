"""Marks in what is written: content credentials, a watermark, a label; and consent."""

from radnerf.provenance.marks import Marks

__all__ = ["Marks"]
