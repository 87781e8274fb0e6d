"""Make a trained portrait say any audio: python render.py portrait=FILE audio=FILE out=FILE.mp4"""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from radnerf.cli import run


def main(config: DictConfig) -> None:
    # Imported late, so that --help and a misspelt option answer at once.
    from hydra.utils import instantiate
    from rich.console import Console
    from rich.progress import track

    from radnerf.errors import UserError
    from radnerf.inference.bundle import PortraitBundle
    from radnerf.inference.shared import shared_frames
    from radnerf.inference.video import Sound, VideoWriter
    from radnerf.kernels import set_backend
    from radnerf.provenance.consent import UNRECORDED
    from radnerf.registry import load_plugins

    out, audio = Path(config.out), Path(config.audio)
    if any(out.resolve() == Path(source).resolve() for source in (audio, config.portrait)):
        raise UserError(f"out={out} would replace a file that is being read: choose another name.")
    if not isinstance(config.devices, int) or config.devices < 1:
        raise UserError(f"devices={config.devices} must be a whole number from 1.")
    load_plugins(config.plugins)
    set_backend(config.kernels)
    bundle = PortraitBundle.load(config.portrait)
    if not bundle.consent:
        print(UNRECORDED)
    sound = Sound.of_file(audio)
    marks = instantiate(config.marks)(portrait=config.portrait, audio=audio)
    video = VideoWriter(out, bundle.fps, sound, marks=marks)
    driver = instantiate(config.driver)(bundle=bundle)
    console = Console(stderr=True)
    quiet = not console.is_terminal
    with video:
        frames = driver if config.devices == 1 else shared_frames(driver, config.devices)
        for frame in track(frames, "rendering", len(driver), console=console, disable=quiet):
            video.write(frame)
    seconds = len(driver) / driver.fps
    print(f"{out}: {len(driver)} frames, {seconds:.1f} s")


if __name__ == "__main__":
    paths = ("portrait", "audio", "out", "pose", "background", "features")
    marks = ("provenance", "label", "label_font")
    run(main, "render/config", (*paths, *marks, "extractor.model", "extractor.checkpoint"))
