"""Train a portrait: python train.py data=obama model=radnerf minutes=10 (see conf/train.yaml)."""

from omegaconf import DictConfig

from radnerf import cli

PATHS = (
    *("data.video", "data.root", "data.folder", "outputs"),
    *("consent", "provenance", "ckpt", "test.audio", "metrics.lpips", "metrics.syncnet"),
    *(f"audio.extractor.{name}" for name in ("model", "checkpoint", "file")),
)


def train(config: DictConfig) -> float | None:
    from radnerf.experiment import run

    metrics = run(config)
    return metrics.get(config.objective)


if __name__ == "__main__":
    cli.run(train, "train", paths=PATHS)
