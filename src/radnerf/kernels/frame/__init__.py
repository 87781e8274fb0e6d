"""Whole frames at once: head, torso and background, to 8-bit pixels in the machine's memory."""

from radnerf.kernels.dispatch import AUTO, Unsupported, get_backend, pick, pick_if_any
from radnerf.kernels.frame.scene import UNSEEN, Camera, FrameRenderer, Image, Scene

__all__ = ["UNSEEN", "Camera", "FrameRenderer", "Image", "Scene", "frame_renderer"]


def frame_renderer(scene: Scene | Unsupported) -> FrameRenderer | None:
    """What draws the frames of a scene; None where they must be drawn operator by operator.

    The scene's weights are read now: train on, and it goes on showing the old ones.
    Raises KernelUnavailable where the cpu or triton back end was asked for by name and cannot.
    """
    if get_backend() in (AUTO, "reference"):
        module = pick_if_any("frame", scene)
    else:
        module = pick("frame", None, scene)
    return None if module is None else module.Renderer(scene)
