"""Whether a video or picture was made by this software: python -m radnerf.verify FILE"""

from radnerf.verify.verdict import Verdict, examine

__all__ = ["Verdict", "examine"]
