"""Head pose by bundle adjustment: one rigid face shape seen by a camera that moves around it.

Letters: T frames, K landmarks. Cameras are the clip's (memory convention, see data/clip.py);
a point of the shape lands at focal * (X / Z, Y / Z) + centre, pixel centres at +0.5.

Gauss-Newton with iteratively reweighted (Geman-McClure) residuals, in two passes: shape and poses
together on frames spread over the clip, with the poses eliminated by the Schur complement; then
the poses of all frames on the fixed shape, with a prior on their acceleration. The prior looks
both ways in time, so it does not lag, and it is weighed against the noise measured in the
residuals, so it vanishes on clean landmarks. How much a head accelerates is measured too, axis by
axis, on a first smooth track: heads nod faster than they lean.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import solveh_banded
from scipy.spatial.transform import Rotation

MAX_SHAPE_FRAMES = 200
CHUNK = 250  # frames whose derivatives are held at a time
SMALL_STEP = 1e-6  # radians and world units
# Landmark errors of one frame are correlated: however many points, they count as this many.
INDEPENDENT_POINTS = 20.0
# Spread of a head's acceleration a frame: degrees, and parts of its distance. A calm head, or an
# axis it hardly turns about, shows less, down to this part; nothing shows more, as what a tracker
# adds to a real video looks like acceleration (the optical flow of the brow says it is not). A
# smooth track shows less of it than there is.
ACCELERATION_DEG = 0.15
ACCELERATION_SHIFT = 3e-4
ACCELERATION_LEAST = 0.1
ACCELERATION_HIDDEN = 1.5
SMOOTHINGS = 4
# Residuals below this fraction of the face's size count as exact.
EXACT = 0.001


@dataclass
class PoseReport:
    """How well one rigid shape explains the landmarks."""

    rmse_px: float  # weighted, over all frames
    noise_px: float  # robust deviation of one coordinate
    jitter_deg: float  # mean absolute third difference of the angles over time
    pnp_jitter_deg: float  # the same without the prior in time
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
    std: float = 0.7,
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
        std: how far the first shape may be off, in its own root mean square radius.

    Returns:
        Poses in memory convention, the shape, and a report.
    """
    height, width = size
    observed = (landmarks.astype(np.float64) - (width / 2, height / 2)) / focal
    trust = np.ones(len(initial_shape)) if weights is None else weights.astype(np.float64)
    start = initial_shape.astype(np.float64)

    rotation, shift = _scaled_orthography(observed, start, trust)
    small = EXACT * _radius(start) / float(np.median(shift[:, 2]))
    rotation, shift = _fit_poses(observed, start, trust, rotation, shift, None, small, 4)
    chosen = np.unique(
        np.linspace(0, len(observed) - 1, min(len(observed), MAX_SHAPE_FRAMES)).round().astype(int)
    )
    shape = _fit_shape(
        observed[chosen],
        start,
        trust,
        rotation[chosen],
        shift[chosen],
        small,
        std * _radius(start),
        shape_iterations,
    )
    shape = _align(shape, start, trust)
    rotation, shift = _fit_poses(
        observed, shape, trust, rotation, shift, None, small, pose_iterations
    )
    residual = _project(shape, rotation, shift) - observed
    noise = max(_std(residual, trust), 0.05 * small)
    rough = _jitter(rotation)
    usual = np.repeat([np.deg2rad(ACCELERATION_DEG), ACCELERATION_SHIFT], 3)
    usual[3:] *= np.median(shift[:, 2])
    accelerating = usual
    for _ in range(SMOOTHINGS):
        rotation, shift = _fit_poses(
            observed,
            shape,
            trust,
            rotation,
            shift,
            _Prior(noise, accelerating),
            noise,
            pose_iterations,
        )
        if len(observed) > 2:
            shown = np.sqrt((_accelerations(rotation, shift) ** 2).mean(0))
            accelerating = np.clip(ACCELERATION_HIDDEN * shown, ACCELERATION_LEAST * usual, usual)
    residual = _project(shape, rotation, shift) - observed
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
) -> Float[np.ndarray, "t k 2"]:
    """Image points at unit focal length."""
    point = shape @ rotation.transpose(0, 2, 1) + shift[:, None]
    return point[..., :2] / point[..., 2:]


def _jacobians(
    shape: Float[np.ndarray, "k 3"],
    rotation: Float[np.ndarray, "t 3 3"],
    shift: Float[np.ndarray, "t 3"],
) -> tuple[Float[np.ndarray, "t k 2 3"], Float[np.ndarray, "t k 2 6"]]:
    """Derivatives of the image points by the camera's point and by the pose.

    The pose steps by a rotation about the head's origin (camera axes) and a shift.
    """
    rotated = shape @ rotation.transpose(0, 2, 1)
    point = rotated + shift[:, None]
    inverse = 1 / point[..., 2]
    x, y = point[..., 0] * inverse, point[..., 1] * inverse
    by_point = np.zeros((*point.shape[:2], 2, 3))
    by_point[..., 0, 0] = by_point[..., 1, 1] = inverse
    by_point[..., 0, 2], by_point[..., 1, 2] = -x * inverse, -y * inverse
    # d(rotated) = omega x rotated, so a row a of by_point becomes rotated x a.
    by_pose = np.empty((*point.shape[:2], 2, 6))
    by_pose[..., 3:] = by_point
    for axis in range(3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        by_pose[..., axis] = (
            rotated[..., i, None] * by_point[..., j] - rotated[..., j, None] * by_point[..., i]
        )
    return by_point, by_pose


def _robust(
    residual: Float[np.ndarray, "t k 2"], trust: Float[np.ndarray, " k"], floor: float
) -> Float[np.ndarray, "t k"]:
    """Geman-McClure weights; the scale follows the deviation of the residuals."""
    scale = 4 * max(_std(residual, trust), floor)
    return trust / (1 + (residual**2).sum(-1) / scale**2) ** 2


def _radius(shape: Float[np.ndarray, "k 3"]) -> float:
    """Root mean square distance from the middle."""
    return float(np.sqrt(((shape - shape.mean(0)) ** 2).sum(-1).mean()))


def _std(residual: Float[np.ndarray, "t k 2"], trust: Float[np.ndarray, " k"]) -> float:
    """Robust standard deviation over the trusted landmarks."""
    rigid = residual[:, trust >= trust.max() / 2]
    return float(np.median(np.abs(rigid))) * 1.4826


def _scaled_orthography(
    observed: Float[np.ndarray, "t k 2"],
    shape: Float[np.ndarray, "k 3"],
    trust: Float[np.ndarray, " k"],
) -> tuple[Float[np.ndarray, "t 3 3"], Float[np.ndarray, "t 3"]]:
    """First poses: the best affine camera of each frame, made a rotation."""
    weight = trust / trust.sum()
    middle = weight @ shape
    centred = (shape - middle) * np.sqrt(weight)[:, None]
    centre = np.einsum("k,tki->ti", weight, observed)
    affine = np.einsum(
        "tki,kj->tij",
        (observed - centre[:, None]) * np.sqrt(weight)[:, None],
        centred @ np.linalg.pinv(centred.T @ centred),
    )
    u, scales, vt = np.linalg.svd(affine, full_matrices=False)
    rows = u @ vt
    rotation = np.stack([rows[:, 0], rows[:, 1], np.cross(rows[:, 0], rows[:, 1])], 1)
    depth = 1 / scales.mean(-1)
    middle_shift = np.concatenate([centre * depth[:, None], depth[:, None]], -1)
    return rotation, middle_shift - rotation @ middle


def _rotate(
    omega: Float[np.ndarray, "t 3"], rotation: Float[np.ndarray, "t 3 3"]
) -> Float[np.ndarray, "t 3 3"]:
    """exp(omega) rotation."""
    return np.asarray(Rotation.from_rotvec(omega).as_matrix() @ rotation)


def _steps(rotation: Float[np.ndarray, "t 3 3"]) -> Float[np.ndarray, "t-1 3"]:
    """Rotation vector from each frame to the next."""
    relative = rotation[1:] @ rotation[:-1].transpose(0, 2, 1)
    return np.asarray(Rotation.from_matrix(relative).as_rotvec())


def _accelerations(
    rotation: Float[np.ndarray, "t 3 3"], shift: Float[np.ndarray, "t 3"]
) -> Float[np.ndarray, "t-2 6"]:
    """Second differences in time of the rotation (radians) and the shift."""
    velocity = np.concatenate([_steps(rotation), np.diff(shift, axis=0)], -1)
    return np.diff(velocity, axis=0)


@dataclass
class _Prior:
    """What is known of a track before the landmarks are looked at."""

    noise: float  # of one coordinate of a landmark
    acceleration: Float[np.ndarray, " 6"]  # deviation a frame: rotation (radians), shift


def _fit_poses(
    observed: Float[np.ndarray, "t k 2"],
    shape: Float[np.ndarray, "k 3"],
    trust: Float[np.ndarray, " k"],
    rotation: Float[np.ndarray, "t 3 3"],
    shift: Float[np.ndarray, "t 3"],
    prior: _Prior | None,
    floor: float,
    iterations: int,
) -> tuple[Float[np.ndarray, "t 3 3"], Float[np.ndarray, "t 3"]]:
    """Poses on a fixed shape; with a prior also smooth in time."""
    n = len(observed)
    for _ in range(iterations):
        residual = observed - _project(shape, rotation, shift)
        weight = _robust(residual, trust, floor)
        if prior is not None:
            weight = weight * (INDEPENDENT_POINTS / trust.sum() / prior.noise**2)
        hessian, gradient = np.empty((n, 6, 6)), np.empty((n, 6))
        for part in (slice(i, i + CHUNK) for i in range(0, n, CHUNK)):
            _, by_pose = _jacobians(shape, rotation[part], shift[part])
            jacobian = by_pose.reshape(len(by_pose), -1, 6)
            weighted = jacobian.transpose(0, 2, 1) * np.repeat(weight[part], 2, 1)[:, None]
            hessian[part] = weighted @ jacobian
            gradient[part] = (weighted @ residual[part].reshape(len(by_pose), -1, 1))[..., 0]
        if prior is None or n < 3:
            damping = 1e-9 * np.trace(hessian, axis1=1, axis2=2)[:, None, None] * np.eye(6)
            step = np.linalg.solve(hessian + damping, gradient[..., None])[..., 0]
        else:
            step = _smooth_step(hessian, gradient, rotation, shift, prior.acceleration)
        rotation, shift = _rotate(step[:, :3], rotation), shift + step[:, 3:]
        if np.abs(step).max() < SMALL_STEP:
            break
    return rotation, shift


def _smooth_step(
    hessian: Float[np.ndarray, "t 6 6"],
    gradient: Float[np.ndarray, "t 6"],
    rotation: Float[np.ndarray, "t 3 3"],
    shift: Float[np.ndarray, "t 3"],
    std: Float[np.ndarray, " 6"],
) -> Float[np.ndarray, "t 6"]:
    """Gauss-Newton step of all frames at once, with the prior on acceleration (banded)."""
    n = len(hessian)
    precision = std**-2.0
    acceleration = _accelerations(rotation, shift) * precision
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
    std: float,
    iterations: int,
) -> Float[np.ndarray, "k 3"]:
    """The shape that, with a free pose a frame, explains the frames best."""
    n, k = observed.shape[:2]
    shape = start
    damping = 1e-3
    for _ in range(iterations):
        residual = observed - _project(shape, rotation, shift)
        weight = _robust(residual, trust, floor)
        # The first shape holds the free gauge, and depth when the head never turns; the cleaner
        # the landmarks are, the less it says.
        noise = max(_std(residual, trust), 0.01 * floor)
        prior = trust.mean() * (noise / std) ** 2
        cost = (weight * (residual**2).sum(-1)).sum() + prior * ((shape - start) ** 2).sum()
        by_camera_point, by_pose = _jacobians(shape, rotation, shift)
        by_point = (by_camera_point.reshape(n, -1, 3) @ rotation).reshape(n, k, 2, 3)
        weighted = by_point * weight[..., None, None]
        cross = sum(weighted[:, :, i, :, None] * by_pose[:, :, i, None] for i in range(2))
        cross = np.asarray(cross).reshape(n, 3 * k, 6)
        points = weighted.transpose(1, 3, 0, 2).reshape(k, 3, -1)
        point_block = points @ by_point.transpose(1, 0, 2, 3).reshape(k, -1, 3)
        point_gradient = (points @ residual.transpose(1, 0, 2).reshape(k, -1, 1))[..., 0]
        flat = by_pose.reshape(n, 2 * k, 6)
        pose_weighted = flat.transpose(0, 2, 1) * np.repeat(weight, 2, 1)[:, None]
        pose_block = pose_weighted @ flat
        pose_gradient = (pose_weighted @ residual.reshape(n, -1, 1))[..., 0]
        system = _System(
            point_block + prior * np.eye(3),
            point_gradient - prior * (shape - start),
            pose_block,
            pose_gradient,
            cross,
        )
        for _ in range(6):
            point_step, pose_step = system.solve(damping)
            new_shape = shape + point_step
            new_rotation, new_shift = _rotate(pose_step[:, :3], rotation), shift + pose_step[:, 3:]
            left = observed - _project(new_shape, new_rotation, new_shift)
            new_cost = (weight * (left**2).sum(-1)).sum()
            new_cost += prior * ((new_shape - start) ** 2).sum()
            if new_cost <= cost:
                break
            damping *= 10
        else:
            break
        damping = max(damping / 10, 1e-12)
        shape, rotation, shift = new_shape, new_rotation, new_shift
        if np.abs(point_step).max() < 10 * SMALL_STEP or new_cost > 0.999 * cost:
            break
    return shape


@dataclass
class _System:
    """Normal equations of points (3 each) and poses (6 each), coupled by `cross`."""

    point_block: Float[np.ndarray, "k 3 3"]
    point_gradient: Float[np.ndarray, "k 3"]
    pose_block: Float[np.ndarray, "t 6 6"]
    pose_gradient: Float[np.ndarray, "t 6"]
    cross: Float[np.ndarray, "t 3*k 6"]

    def solve(self, damping: float) -> tuple[Float[np.ndarray, "k 3"], Float[np.ndarray, "t 6"]]:
        """Damped Gauss-Newton step; the poses are eliminated first (Schur complement)."""
        k = len(self.point_block)
        poses = self.pose_block * (1 + damping * np.eye(6))
        root = np.linalg.inv(np.linalg.cholesky(poses))
        half = self.cross @ root.transpose(0, 2, 1)
        half_gradient = (root @ self.pose_gradient[..., None])[..., 0]
        tall = half.transpose(1, 0, 2).reshape(3 * k, -1)
        reduced = -(tall @ tall.T).reshape(k, 3, k, 3)
        diagonal = np.arange(k)
        reduced[diagonal, :, diagonal] += self.point_block * (1 + damping * np.eye(3))
        right = self.point_gradient.reshape(-1) - tall @ half_gradient.reshape(-1)
        point_step = np.linalg.solve(reduced.reshape(3 * k, 3 * k), right)
        pose_right = half_gradient - (half.transpose(0, 2, 1) @ point_step)
        pose_step = (root.transpose(0, 2, 1) @ pose_right[..., None])[..., 0]
        return point_step.reshape(k, 3), pose_step


def _align(
    shape: Float[np.ndarray, "k 3"],
    target: Float[np.ndarray, "k 3"],
    trust: Float[np.ndarray, " k"],
) -> Float[np.ndarray, "k 3"]:
    """Turn, scale and move a shape onto another (weighted Procrustes)."""
    weight = (trust / trust.sum())[:, None]
    middle, target_middle = (weight * shape).sum(0), (weight * target).sum(0)
    a, b = shape - middle, target - target_middle
    u, singular, vt = np.linalg.svd((weight * a).T @ b)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    scale = (singular * sign).sum() / (weight * a**2).sum()
    return scale * a @ (u * sign) @ vt + target_middle


def _jitter(rotation: Float[np.ndarray, "t 3 3"]) -> float:
    """Mean absolute third difference of the angles, degrees."""
    if len(rotation) < 4:
        return 0.0
    return float(np.rad2deg(np.abs(np.diff(_steps(rotation), n=2, axis=0)).mean()))


def _rotation_range(rotation: Float[np.ndarray, "t 3 3"]) -> tuple[float, float, float]:
    """Range (5 % to 95 %) of the rotations about the camera's x, y and z axes, degrees."""
    mean = Rotation.from_matrix(rotation).mean()
    angles = np.rad2deg((Rotation.from_matrix(rotation) * mean.inv()).as_rotvec())
    low, high = np.percentile(angles, [5, 95], axis=0)
    pitch, yaw, roll = (float(x) for x in high - low)
    return pitch, yaw, roll
