"""Read a motion from video frames: track the face, fit one person to all frames, find the gaze, steady the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UserError
from ..face import FaceDetector, load_detector
from ..face.mesh_points import EYE_LEFT, EYE_RIGHT, LIDS_LEFT, LIDS_RIGHT
from ..fitting.crop import MARGIN
from ..fitting.gaze import find_gaze, limited
from ..fitting.landmarks import fit_landmarks
from ..fitting.pose import umeyama
from ..head import HeadModel
from ..progress import report
from ..render.camera import rotation_matrix
from ..render.viewer_camera import axis_angle
from .looks import look_weights
from .motion import Motion, check_fps
from .network import Seen, load_network
from .patches import cut_patches, moved_points
from .solve import MotionProblem, Person, Poses
from .steady import Steadiness, filled, steady
from .track import FaceTracker

KEY_FRAMES, FIRST = 8, 3  # frames from which the person is found; those of them that are fitted by themselves first
SIZE = 256  # side of the square picture in whose pixels all frames are fitted
IRIS_SHARE, IRIS = 0.093, 13.0  # radius of the iris / distance of the eyes; largest one in pixels that is looked at
SURE = 0.5  # confidence of a gaze below which it is taken from the neighbours
OPEN, MOST_USUAL = 0.4, 0.6  # share of a film whose lids are at least this open; what is taken for open at most
SHUT = 0.6  # weight of eyeBlink above which the gaze is taken from the neighbours
WEIGHTS, TURN, GAZE = Steadiness(1.6, 3.0), Steadiness(1.2, 12.0), Steadiness(1.5, 6.0)


@dataclass
class Eyes:
    """Both eyes of one frame. image: `[1, 3, h, w]` sRGB. place: left column and top row in the frame. scale: its
    pixels for each pixel of the frame"""

    image: Tensor
    place: Tensor
    scale: float


@dataclass
class Track:
    """What was seen in the `S` frames that show the face, of F.

    meshes: `[S, 468, 3]` px. eyes, patches: of each, the latter as of `cut_patches`. seen: `[F]` bool
    """

    meshes: Tensor
    eyes: list[Eyes]
    patches: list[tuple[Tensor, Tensor]]
    seen: Tensor


@dataclass
class Given:
    """What another program found in F frames; None for what it did not look for.

    meshes: for each frame `[468, 3]` px, or None where it shows no face. weights: `[F, 52]`
    """

    meshes: list[Tensor | None] | None = None
    weights: Tensor | None = None


@torch.inference_mode(False)
@torch.no_grad()
def read_motion(
    frames: Iterable[Tensor],
    head: HeadModel,
    fps: float = 25.0,
    detector: FaceDetector | None = None,
    which: str | int = "largest",
    steadiness: float = 1.0,
    count: int | None = None,
    given: Given | None = None,
) -> Motion:
    """What one face does in a film.

    frames: `[3, H, W]` each, sRGB 0..1, all of one size; read one after the other
    head: whose shapes are fitted. fps: frames a second. detector: None loads the built-in one
    which: the face that is meant, where the first frame shows several; see `face.parse_choice`
    steadiness: 0 (as measured) and up; 1 is usual
    count: number of frames, for the progress; None: unknown
    given: what another program found in these frames; None for nothing

    A frame without the face gets what lies between its neighbours; `notes` tells how many there are.
    Raises UserError where no frame shows a face.
    """
    check_steadiness(steadiness)
    fps = check_fps(fps)
    network = load_network() if given is None or given.weights is None else None
    if given is None or given.meshes is None:
        tracker = FaceTracker(detector or load_detector(), head, which)
        track = follow(frames, lambda i, frame: tracker.follow(frame), count)
    else:
        meshes = given.meshes
        track = follow(frames, lambda i, frame: meshes[i], count)
    fit = FilmFit(head, track.meshes)
    gaze, sure = fit.gazes(track.eyes)
    if network is None:
        assert given is not None and given.weights is not None
        fit.poses.expression = given.weights[track.seen].double()
        gaze = without_gaps(gaze, sure > SURE)
    else:
        fit.refit(look_weights(limited(gaze) * sure[:, None], head.expression_names))
        weights, gaze, missing = network.read(seen_of(fit, track, gaze, sure))
        weights = with_open_eyes(weights, head, fps)
        fit.poses.rotation = rotation_matrix(missing.double()) @ fit.poses.rotation
        gaze = without_gaps(gaze, weights[:, blinks(head)].amax(1) < SHUT)
        looks = look_weights(gaze, head.expression_names)
        fit.poses.expression = torch.where(looks.isnan(), weights, looks).double()
    return assemble(fit, gaze, track.seen, fps, steadiness)


def seen_of(fit: FilmFit, track: Track, gaze: Tensor, sure: Tensor) -> Seen:
    """What the network is given."""
    poses = fit.poses
    return Seen(
        poses.expression.float(),
        fit.moved().float(),
        poses.rotation.float(),
        limited(gaze),
        sure,
        torch.stack([eyes for eyes, _ in track.patches]),
        torch.stack([mouth for _, mouth in track.patches]),
    )


def with_open_eyes(weights: Tensor, head: HeadModel, fps: float) -> Tensor:
    """Weights `[S, 52]` whose eyeBlink is counted from where the lids usually are.

    Narrow eyes look like half-shut ones. In a film of a second or more, lids are open most of the time.
    """
    if len(weights) < max(fps, 12):
        return weights
    weights, own = weights.clone(), blinks(head)
    usual = weights[:, own].quantile(OPEN, 0).clamp(max=MOST_USUAL)
    weights[:, own] = ((weights[:, own] - usual) / (1 - usual)).clamp(0, 1)
    return weights


def blinks(head: HeadModel) -> list[int]:
    return [i for i, name in enumerate(head.expression_names) if name.startswith("eyeBlink")]


def without_gaps(gaze: Tensor, known: Tensor) -> Tensor:
    """Gaze `[S, 2]` in its limits; where it is not `known` `[S]`, as in the nearest frames. Straight if it never is."""
    return limited(filled(gaze, known)) if bool(known.any()) else torch.zeros_like(gaze)


def check_steadiness(value: float) -> None:
    """Raises UserError out of range."""
    if not 0 <= value <= 10:
        raise UserError(f"The steadiness must be from 0 to 10 (got {value:g}).")


def follow(frames: Iterable[Tensor], find: Callable[[int, Tensor], Tensor | None], count: int | None) -> Track:
    """The face in all frames. find: the mesh of a frame and its number. Raises UserError where none shows it."""
    meshes, eyes, patches, seen = [], [], [], []
    for i, frame in enumerate(frames):
        if frame.ndim != 3 or frame.shape[0] != 3:
            raise UserError(f"A frame must be [3, H, W], not {tuple(frame.shape)}.")
        mesh = find(i, frame)
        seen.append(mesh is not None)
        if mesh is not None:
            meshes.append(mesh)
            eyes.append(cut_eyes(frame, mesh))
            patches.append(cut_patches(frame.float().cpu(), mesh))
        if count:
            report(min(i + 1, count), count)
    if not seen:
        raise UserError("There are no frames; give a video or a batch of images.")
    if not meshes:
        raise UserError(
            f"No face was found in any of {len(seen)} frames. Use a film in which the face is visible, upright and at "
            "least about 40 pixels wide."
        )
    return Track(torch.stack(meshes), eyes, patches, torch.tensor(seen))


def cut_eyes(frame: Tensor, mesh: Tensor) -> Eyes:
    """The part of a frame `[3, H, W]` that shows the eyes, not larger than the search for the irises needs."""
    points = mesh[list(LIDS_LEFT + LIDS_RIGHT), :2]
    apart = float((mesh[list(EYE_LEFT), :2].mean(0) - mesh[list(EYE_RIGHT), :2].mean(0)).norm())
    margin = 0.35 * apart + 2
    low, high = points.amin(0) - margin, points.amax(0) + margin
    height, width = frame.shape[-2:]
    x0, y0 = (max(0, min(int(v), n - 2)) for v, n in zip(low.tolist(), (width, height), strict=True))
    x1, y1 = (max(a + 2, min(int(v) + 1, n)) for v, n, a in zip(high.tolist(), (width, height), (x0, y0), strict=True))
    image, shrink = frame[None, :, y0:y1, x0:x1].float(), max(1, int(IRIS_SHARE * apart / IRIS))
    if shrink > 1:
        image = F.avg_pool2d(image, shrink, ceil_mode=True, count_include_pad=False)
    return Eyes(image.cpu().clone(), torch.tensor([float(x0), float(y0)]), 1 / shrink)


class FilmFit:
    """One person's head fitted to all frames of a film.

    person, poses: what was found. All frames are fitted in one square picture of SIZE pixels, which `matrix` cuts
    """

    def __init__(self, head: HeadModel, meshes: Tensor):
        """meshes: `[S, 468, 3]` px"""
        self.head, self.meshes = head, meshes
        self.problem = MotionProblem(head)
        low, high = meshes[..., :2].amin(1), meshes[..., :2].amax(1)
        self.scale = SIZE / (float((high - low).amax(1).median()) * MARGIN)
        self.centre = ((low + high) / 2).median(0).values
        points = (meshes[..., :2] - self.centre) * self.scale
        self.target = (points * points.new_tensor([1.0, -1.0]) / (SIZE / 2)).double()
        self.depth = -(meshes[..., 2] * self.scale / (SIZE / 2)).double()
        self.person, self.poses = self._start()

    def _start(self) -> tuple[Person, Poses]:
        """The person from a few frames, then every frame."""
        keys = torch.linspace(0, len(self.target) - 1, min(KEY_FRAMES, len(self.target))).round().long()
        pixels = torch.cat([(self.meshes[..., :2] - self.centre) * self.scale + SIZE / 2,
                            self.meshes[..., 2:] * self.scale], 2)  # fmt: skip
        first = keys[torch.linspace(0, len(keys) - 1, min(FIRST, len(keys))).round().long()]
        found = [fit_landmarks(pixels[i], self.head, SIZE) for i in first.tolist()]
        identity = torch.stack([f.identity for f in found]).mean(0).double()
        focal = torch.stack([f.focal for f in found]).double().log().mean().exp()
        person = self.problem.person(identity, focal)
        person, _ = self.problem.refine(person, self._first(person, keys), self.target[keys])
        every = torch.arange(len(self.target))
        return person, self.problem.fit(person, self._first(person, every), self.target)

    def _first(self, person: Person, frames: Tensor) -> Poses:
        """Poses of the neutral head, in closed form from the mesh points and their depths."""
        rotation, shift = [], []
        for i in frames.tolist():
            target = torch.cat([self.target[i], self.depth[i][:, None]], 1)
            scale, r, c = umeyama(person.points, target, self.problem.weights)
            rotation.append(r)
            shift.append(torch.stack([c[0] / scale, c[1] / scale, (person.focal / scale).log()]))
        expression = person.points.new_zeros(len(frames), self.head.n_expression)
        return Poses(torch.stack(rotation), torch.stack(shift), expression)

    def gazes(self, eyes: list[Eyes]) -> tuple[Tensor, Tensor]:
        """Gaze `[S, 2]` against the head, and how sure each is `[S]`."""
        centres = self.head.eye_centres(self.person.identity[None].to(self.head.mean))[0].double().cpu()
        gaze, sure = [], []
        for i, eye in enumerate(eyes):
            r, s = self.poses.rotation[i], self.poses.shift[i]
            p = centres @ r.T
            q = self.person.focal / (s[2].exp() - p[:, 2]) * (SIZE / 2) / self.scale  # frame px of a metre
            at = (p[:, :2] + s[:2]) * q[:, None] * p.new_tensor([1.0, -1.0]) + self.centre
            at = ((at - eye.place) * eye.scale).float()
            mesh = (self.meshes[i, :, :2] - eye.place) * eye.scale
            found, share = find_gaze(eye.image, mesh, at, (q * eye.scale).float(), r.float())
            gaze.append(found)
            sure.append(share)
        return torch.stack(gaze), torch.tensor(sure)

    def moved(self) -> Tensor:
        """`patches.moved_points` of all frames, `[S, P, 2]` mm."""
        neutral = Poses(self.poses.rotation, self.poses.shift, torch.zeros_like(self.poses.expression))
        _, seen = self.problem.project(self.person, neutral)
        scale = self.person.focal / self.poses.shift[:, 2].exp()
        return moved_points(self.target, seen, self.poses.rotation, scale)

    def refit(self, looks: Tensor) -> None:
        """Fit again with the weights of the gaze given: `[S, 52]`, NaN for shapes that are fitted."""
        given = ~looks.isnan()
        expression = torch.where(given, looks.double().nan_to_num(), self.poses.expression)
        poses = Poses(self.poses.rotation, self.poses.shift, expression)
        self.poses = self.problem.fit(self.person, poses, self.target, held=given)


def assemble(fit: FilmFit, gaze: Tensor, seen: Tensor, fps: float, steadiness: float) -> Motion:
    """The motion of all frames, steadied. gaze: `[S, 2]`. seen: `[F]`"""
    n = len(seen)

    def all_frames(values: Tensor) -> Tensor:
        full = values.new_zeros(n, *values.shape[1:])
        full[seen] = values
        return filled(full, seen)

    weights = steady(all_frames(fit.poses.expression), fps, WEIGHTS, steadiness)
    turn = rotations(steady(all_frames(fit.poses.rotation), fps, TURN, steadiness))
    gaze = steady(all_frames(gaze), fps, GAZE, steadiness)
    notes = []
    if missing := int((~seen).sum()):
        notes.append(f"{missing} of {n} frames show no face; they take what lies between their neighbours.")
    return Motion(weights.clamp(0, 1).float(), turn.float(), gaze.float(), fps, seen, tuple(notes))


def rotations(matrices: Tensor) -> Tensor:
    """`[F, 3, 3]` that are nearly rotations -> axis times angle `[F, 3]`, float64."""
    u, _, v = torch.linalg.svd(matrices.double())
    sign = torch.ones(len(u), 1, 3).double()
    sign[:, 0, 2] = torch.det(u @ v)
    return torch.stack([axis_angle(m) for m in (u * sign) @ v])
