"""Head pose by bundle adjustment: one rigid face shape seen by a camera that moves around it.

Letters: T frames, K landmarks. Cameras are the clip's (memory convention, see data/clip.py);
a point of the shape lands at focal * (X / Z, Y / Z) + centre, pixel centres at +0.5.

Gauss-Newton with iteratively reweighted (Geman-McClure) residuals, in two passes: shape and poses
together on frames spread over the clip, with the poses eliminated by the Schur complement; then
the poses of all frames on the fixed shape, with a prior on their acceleration. The prior looks
both ways in time, so it does not lag, and it is weighed against the noise measured in the
residuals, so it vanishes on clean landmarks.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import solveh_banded

MAX_SHAPE_FRAMES = 400
# Landmark errors of one frame are correlated: however many points, they count as this many.
INDEPENDENT_POINTS = 40.0
# Spread of a head's acceleration a frame: degrees, and parts of its distance.
ACCELERATION_DEG = 0.12
ACCELERATION_SHIFT = 3e-4
MIN_NOISE_PX = 0.02


@dataclass
class PoseReport:
    """How well one rigid shape explains the landmarks."""

    rmse_px: float  # weighted, over all frames
    noise_px: float  # robust spread of one coordinate
    jitter_deg: float  # mean absolute third difference of the angles over time
    pnp_jitter_deg: float  # the same without the shared prior in time
    rotation_range_deg: tuple[float, float, float]  # pitch, yaw, roll: 5 % to 95 %
    distance: float  # median camera distance, world units

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def solve_poses(
    landmarks: Float[np.ndarray, "t k 2"],
    size: tuple[int, int],
    focal: float,
    initial_shape: Float[np.ndarray, "k 3"],
    weights: Float[np.ndarray, " k"] | None = None,
    shape_iterations: int = 15,
    pose_iterations: int = 8,
) -> tuple[Float[np.ndarray, "t 4 4"], Float[np.ndarray, "k 3"], PoseReport]:
    """Camera-to-world poses of all frames and the face shape they share.

    Args:
        landmarks: pixels, x right and y down.
        size: height and width of the image; the optical axis is at its middle.
        focal: pixels.
        initial_shape: rough face in the world's frame and unit; the answer keeps its frame and
            scale (they cannot be seen in the images), so a frontal face there is frontal here.
        weights: trust in each landmark, 1 for rigid points, less for lips and jaw.

    Returns:
        Poses in memory convention, the shape, and a report.
    """
    height, width = size
    observed = (landmarks.astype(np.float64) - (width / 2, height / 2)) / focal
    trust = np.ones(len(initial_shape)) if weights is None else weights.astype(np.float64)
    start = initial_shape.astype(np.float64)
    pixel = 1 / focal

    rotation, shift = _scaled_orthography(observed, start, trust)
    rotation, shift = _fit_poses(observed, start, trust, rotation, shift, None, pixel, 4)
    chosen = np.unique(
        np.linspace(0, len(observed) - 1, min(len(observed), MAX_SHAPE_FRAMES)).round().astype(int)
    )
    shape = _fit_shape(
        observed[chosen], start, trust, rotation[chosen], shift[chosen], pixel, shape_iterations
    )
    shape = _align(shape, start, trust)
    rotation, shift = _fit_poses(
        observed, shape, trust, rotation, shift, None, pixel, pose_iterations
    )
    residual = _project(shape, rotation, shift)[0] - observed
    noise = max(_spread(residual, trust) / pixel, MIN_NOISE_PX) * pixel
    rough = _jitter(rotation)
    rotation, shift = _fit_poses(
        observed, shape, trust, rotation, shift, noise, noise, pose_iterations
    )
    residual = _project(shape, rotation, shift)[0] - observed
    pose = np.zeros((len(observed), 4, 4))
    pose[:, :3, :3] = rotation.transpose(0, 2, 1)
    pose[:, :3, 3] = -np.einsum("tji,tj->ti", rotation, shift)
    pose[:, 3, 3] = 1
    mean_square = ((residual**2).sum(-1) * trust).sum() / (trust.sum() * len(residual))
    report = PoseReport(
        rmse_px=float(np.sqrt(mean_square)) * focal,
        noise_px=float(noise) * focal,
        jitter_deg=_jitter(rotation),
        pnp_jitter_deg=rough,
        rotation_range_deg=_rotation_range(rotation),
        distance=float(np.median(np.linalg.norm(pose[:, :3, 3], axis=-1))),
    )
    return pose.astype(np.float32), shape.astype(np.float32), report


def _project(
    shape: Float[np.ndarray, "k 3"],
    rotation: Float[np.ndarray, "t 3 3"],
    shift: Float[np.ndarray, "t 3"],
) -> tuple[Float[np.ndarray, "t k 2"], Float[np.ndarray, "t k 2 3"], Float[np.ndarray, "t k 3"]]:
    """Image points at unit focal length, their derivative by the camera point, turned points."""
    turned = np.einsum("tij,kj->tki", rotation, shape)
    point = turned + shift[:, None]
    inverse = 1 / point[..., 2]
    image = point[..., :2] * inverse[..., None]
    slope = np.zeros((*image.shape, 3))
    slope[..., 0, 0] = slope[..., 1, 1] = inverse
    slope[..., :, 2] = -image * inverse[..., None]
    return image, slope, turned


def _pose_slope(
    slope: Float[np.ndarray, "t k 2 3"], turned: Float[np.ndarray, "t k 3"]
) -> Float[np.ndarray, "t k 2 6"]:
    """Derivative by a turn about the head's origin (camera axes), then by a shift."""
    # d(turned) = omega x turned, so the row a becomes turned x a.
    return np.concatenate([np.cross(turned[:, :, None], slope), slope], -1)


def _robust(
    residual: Float[np.ndarray, "t k 2"], trust: Float[np.ndarray, " k"], floor: float
) -> Float[np.ndarray, "t k"]:
    """Geman-McClure weights; the scale follows the spread of the residuals."""
    scale = 4 * max(_spread(residual, trust), floor)
    return trust / (1 + (residual**2).sum(-1) / scale**2) ** 2


def _spread(residual: Float[np.ndarray, "t k 2"], trust: Float[np.ndarray, " k"]) -> float:
    """Robust standard deviation over the trusted landmarks."""
    rigid = residual[:, trust >= trust.max() / 2]
    return float(np.median(np.abs(rigid))) * 1.4826


def _scaled_orthography(
    observed: Float[np.ndarray, "t k 2"],
    shape: Float[np.ndarray, "k 3"],
    trust: Float[np.ndarray, " k"],
) -> tuple[Float[np.ndarray, "t 3 3"], Float[np.ndarray, "t 3"]]:
    """First poses: the best affine camera of each frame, made a rotation."""
    share = trust / trust.sum()
    middle = share @ shape
    centred = (shape - middle) * np.sqrt(share)[:, None]
    centre = np.einsum("k,tki->ti", share, observed)
    affine = np.einsum(
        "tki,kj->tij",
        (observed - centre[:, None]) * np.sqrt(share)[:, None],
        centred @ np.linalg.pinv(centred.T @ centred),
    )
    u, scales, vt = np.linalg.svd(affine, full_matrices=False)
    rows = u @ vt
    rotation = np.stack([rows[:, 0], rows[:, 1], np.cross(rows[:, 0], rows[:, 1])], 1)
    depth = 1 / scales.mean(-1)
    middle_shift = np.concatenate([centre * depth[:, None], depth[:, None]], -1)
    return rotation, middle_shift - rotation @ middle


def _turn(
    omega: Float[np.ndarray, "t 3"], rotation: Float[np.ndarray, "t 3 3"]
) -> Float[np.ndarray, "t 3 3"]:
    """exp(omega) rotation."""
    angle = np.linalg.norm(omega, axis=-1)[:, None, None]
    cross = np.zeros((len(omega), 3, 3))
    cross[:, [2, 0, 1], [1, 2, 0]] = omega
    cross[:, [1, 2, 0], [2, 0, 1]] = -omega
    small = np.maximum(angle, 1e-12)
    turn = (
        np.eye(3)
        + cross * np.sinc(angle / np.pi)
        + cross @ cross * ((1 - np.cos(angle)) / small**2)
    )
    return turn @ rotation


def _angles(rotation: Float[np.ndarray, "t 3 3"]) -> Float[np.ndarray, "t 3"]:
    """Steps in time: rotation vector from each frame to the next, and zero for the last."""
    relative = rotation[1:] @ rotation[:-1].transpose(0, 2, 1)
    vector = np.stack(
        [
            relative[:, 2, 1] - relative[:, 1, 2],
            relative[:, 0, 2] - relative[:, 2, 0],
            relative[:, 1, 0] - relative[:, 0, 1],
        ],
        -1,
    )
    sine = np.linalg.norm(vector, axis=-1) / 2
    cosine = (np.trace(relative, axis1=1, axis2=2) - 1) / 2
    angle = np.arctan2(sine, cosine)
    return vector * (np.where(sine > 1e-9, angle / np.maximum(sine, 1e-12), 1) / 2)[:, None]


def _fit_poses(
    observed: Float[np.ndarray, "t k 2"],
    shape: Float[np.ndarray, "k 3"],
    trust: Float[np.ndarray, " k"],
    rotation: Float[np.ndarray, "t 3 3"],
    shift: Float[np.ndarray, "t 3"],
    noise: float | None,
    floor: float,
    iterations: int,
) -> tuple[Float[np.ndarray, "t 3 3"], Float[np.ndarray, "t 3"]]:
    """Poses on a fixed shape; with `noise` (of one coordinate) also smooth in time."""
    n = len(observed)
    for _ in range(iterations):
        image, slope, turned = _project(shape, rotation, shift)
        residual = observed - image
        weight = _robust(residual, trust, floor)
        if noise is not None:
            weight = weight * (INDEPENDENT_POINTS / trust.sum() / noise**2)
        jacobian = _pose_slope(slope, turned).reshape(n, -1, 6)
        weighted = jacobian * np.repeat(weight, 2, axis=1)[..., None]
        hessian = weighted.transpose(0, 2, 1) @ jacobian
        gradient = (weighted.transpose(0, 2, 1) @ residual.reshape(n, -1, 1))[..., 0]
        if noise is None or n < 3:
            damping = 1e-9 * np.trace(hessian, axis1=1, axis2=2)[:, None, None] * np.eye(6)
            step = np.linalg.solve(hessian + damping, gradient[..., None])[..., 0]
        else:
            step = _smooth_step(hessian, gradient, rotation, shift)
        rotation, shift = _turn(step[:, :3], rotation), shift + step[:, 3:]
    return rotation, shift


def _smooth_step(
    hessian: Float[np.ndarray, "t 6 6"],
    gradient: Float[np.ndarray, "t 6"],
    rotation: Float[np.ndarray, "t 3 3"],
    shift: Float[np.ndarray, "t 3"],
) -> Float[np.ndarray, "t 6"]:
    """Gauss-Newton step of all frames at once, with the prior on acceleration (banded)."""
    n = len(hessian)
    spread_shift = ACCELERATION_SHIFT * np.median(shift[:, 2])
    # Depth is seen worst and moves no faster than the rest: the same spread serves.
    precision = np.repeat([np.deg2rad(ACCELERATION_DEG), spread_shift], 3) ** -2.0
    velocity = np.concatenate([_angles(rotation), np.diff(shift, axis=0)], -1)
    acceleration = np.diff(velocity, axis=0) * precision
    gradient = gradient.copy()
    gradient[:-2] -= acceleration
    gradient[1:-1] += 2 * acceleration
    gradient[2:] -= acceleration
    # Second differences squared: diagonals of D^T D.
    count = np.zeros((3, n))
    count[0, :-2] += 1
    count[0, 1:-1] += 4
    count[0, 2:] += 1
    count[1, :-2] -= 2
    count[1, 1:-1] -= 2
    count[2, :-2] += 1
    band = np.zeros((13, n, 6))  # lower form: band[d, column] = A[column + d, column]
    for d in range(6):
        rows = np.arange(6 - d)
        band[d, :, rows] += hessian[:, rows + d, rows].T
    for lag in range(3):
        band[6 * lag] += count[lag][:, None] * precision
    return solveh_banded(band.reshape(13, -1), gradient.reshape(-1), lower=True).reshape(n, 6)


def _fit_shape(
    observed: Float[np.ndarray, "t k 2"],
    start: Float[np.ndarray, "k 3"],
    trust: Float[np.ndarray, " k"],
    rotation: Float[np.ndarray, "t 3 3"],
    shift: Float[np.ndarray, "t 3"],
    floor: float,
    iterations: int,
) -> Float[np.ndarray, "k 3"]:
    """The shape that, with a free pose a frame, explains the frames best."""
    n, k = observed.shape[:2]
    shape = start.copy()
    # A whisper of the first shape: holds the free gauge, and depth when the head never turns.
    prior = 1e-2 * trust.mean() / np.median(shift[:, 2]) ** 2
    for _ in range(iterations):
        image, slope, turned = _project(shape, rotation, shift)
        residual = observed - image
        weight = _robust(residual, trust, floor)
        by_pose = _pose_slope(slope, turned)
        by_point = np.einsum("tkij,tjl->tkil", slope, rotation)
        weighted = by_point * weight[..., None, None]
        point_block = np.einsum("tkia,tkib->kab", weighted, by_point)
        point_block += prior * np.eye(3)
        point_gradient = np.einsum("tkia,tki->ka", weighted, residual) - prior * (shape - start)
        cross = np.einsum("tkia,tkib->tkab", weighted, by_pose).reshape(n, 3 * k, 6)
        flat = by_pose.reshape(n, 2 * k, 6)
        pose_weighted = flat * np.repeat(weight, 2, axis=1)[..., None]
        pose_block = pose_weighted.transpose(0, 2, 1) @ flat
        pose_block += 1e-9 * np.trace(pose_block, axis1=1, axis2=2)[:, None, None] * np.eye(6)
        pose_gradient = (pose_weighted.transpose(0, 2, 1) @ residual.reshape(n, -1, 1))[..., 0]

        inverse_root = np.linalg.inv(np.linalg.cholesky(pose_block))
        half = cross @ inverse_root.transpose(0, 2, 1)
        half_gradient = (inverse_root @ pose_gradient[..., None])[..., 0]
        tall = half.transpose(1, 0, 2).reshape(3 * k, -1)
        reduced = -tall @ tall.T
        for axis in range(3):
            rows = np.arange(k)[:, None] * 3 + axis
            reduced[rows, np.arange(k)[:, None] * 3 + np.arange(3)] += point_block[:, axis]
        right = point_gradient.reshape(-1) - tall @ half_gradient.reshape(-1)
        point_step = np.linalg.solve(reduced, right)
        pose_right = half_gradient - np.einsum("tpi,p->ti", half, point_step)
        pose_step = np.einsum("tij,ti->tj", inverse_root, pose_right)

        shape = shape + point_step.reshape(k, 3)
        rotation = _turn(pose_step[:, :3], rotation)
        shift = shift + pose_step[:, 3:]
        if np.abs(point_step).max() < 1e-7 * np.abs(start).max():
            break
    return shape


def _align(
    shape: Float[np.ndarray, "k 3"],
    target: Float[np.ndarray, "k 3"],
    trust: Float[np.ndarray, " k"],
) -> Float[np.ndarray, "k 3"]:
    """Turn, scale and move a shape onto another (weighted Procrustes)."""
    share = (trust / trust.sum())[:, None]
    middle, target_middle = (share * shape).sum(0), (share * target).sum(0)
    a, b = shape - middle, target - target_middle
    u, singular, vt = np.linalg.svd((share * a).T @ b)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = (singular * sign).sum() / (share * a**2).sum()
    return scale * a @ (u * sign) @ vt + target_middle


def _jitter(rotation: Float[np.ndarray, "t 3 3"]) -> float:
    """Mean absolute third difference of the angles, degrees."""
    if len(rotation) < 4:
        return 0.0
    return float(np.rad2deg(np.abs(np.diff(_angles(rotation), n=2, axis=0)).mean()))


def _rotation_range(rotation: Float[np.ndarray, "t 3 3"]) -> tuple[float, float, float]:
    """Spread (5 % to 95 %) of the turns about the camera's x, y and z axes, degrees."""
    mean = np.linalg.svd(rotation.mean(0))
    upright = mean.U @ mean.Vh
    relative = rotation @ upright.T
    turns = np.rad2deg(
        np.stack(
            [
                relative[:, 2, 1] - relative[:, 1, 2],
                relative[:, 0, 2] - relative[:, 2, 0],
                relative[:, 1, 0] - relative[:, 0, 1],
            ],
            -1,
        )
        / 2
    )
    low, high = np.percentile(turns, [5, 95], axis=0)
    pitch, yaw, roll = (float(x) for x in high - low)
    return pitch, yaw, roll
