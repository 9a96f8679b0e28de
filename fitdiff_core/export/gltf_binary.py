"""The binary chunk of a GLB, with its buffer views and accessors (glTF 2.0, section 3.6)."""

from __future__ import annotations

import numpy as np

FLOAT, UINT8, UINT16, UINT32 = 5126, 5121, 5123, 5125
VERTEX_BUFFER, INDEX_BUFFER = 34962, 34963
COMPONENTS = {"u1": UINT8, "u2": UINT16, "u4": UINT32, "f4": FLOAT}


class Binary:
    """The binary chunk, built by appending; each view is aligned to 4 bytes.

    data: bytes of the chunk
    views, accessors: the lists `bufferViews` and `accessors` of the glTF document
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[dict] = []
        self.accessors: list[dict] = []
        self._still: dict[int, int] = {}  # number of vectors -> accessor of zeros

    def view(self, data: bytes, target: int | None = None) -> int:
        """Append bytes as a buffer view; returns its index. target: `VERTEX_BUFFER`, `INDEX_BUFFER` or None."""
        view = {"buffer": 0, "byteOffset": len(self.data), "byteLength": len(data)}
        self.views.append(view if target is None else {**view, "target": target})
        self.data += data + b"\0" * (-len(data) % 4)
        return len(self.views) - 1

    def accessor(self, values: np.ndarray, kind: str, target: int | None, bounds: bool = False) -> int:
        """Append an array as an accessor; returns its index.

        values: `[N, ...]`, float32, uint16, uint32, or uint8, which stands for 0..1
        kind: glTF type: "SCALAR", "VEC2", "VEC3" or "VEC4"
        target: `VERTEX_BUFFER`, `INDEX_BUFFER` or None
        bounds: write min and max, which positions must have
        """
        accessor = {
            "bufferView": self.view(little_endian_bytes(values), target),
            "componentType": COMPONENTS[values.dtype.str[1:]],
            "count": len(values),
            "type": kind,
        }
        if values.dtype == np.uint8:
            accessor["normalized"] = True
        if bounds:  # as float32: the validator compares them with the stored values
            low, high = (np.atleast_1d(f(0)).astype(float).tolist() for f in (values.min, values.max))
            accessor |= {"min": low, "max": high}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def values(self, values: np.ndarray, kind: str, bounds: bool = False) -> int:
        """Append values of an animation; as `accessor`, for no vertex or index buffer."""
        return self.accessor(values, kind, None, bounds)

    def vertices(self, values: np.ndarray, kind: str) -> int:
        """Append an attribute of vertices; as `accessor`."""
        return self.accessor(values, kind, VERTEX_BUFFER)

    def joints(self, values: np.ndarray) -> int:
        """Append joint numbers `[N, 4]` uint8, which are not shares of 1."""
        index = self.accessor(values, "VEC4", VERTEX_BUFFER)
        del self.accessors[index]["normalized"]
        return index

    def matrices(self, values: np.ndarray) -> int:
        """Append matrices `[N, 16]` float32, column by column, which no vertex buffer holds."""
        accessor = {"bufferView": self.view(little_endian_bytes(values)), "componentType": FLOAT, "count": len(values)}
        self.accessors.append({**accessor, "type": "MAT4"})
        return len(self.accessors) - 1

    def sparse(self, count: int, rows: np.ndarray, values: np.ndarray, bounds: bool = False) -> int:
        """Append a sparse accessor of float32 vectors that are 0 except at some rows; returns its index.

        count: number of vectors
        rows: `[M]`, ascending
        values: `[M, 3]`, the vectors at `rows`
        bounds: write min and max
        It is dense if that is not larger. For M = 0 it is `still`.
        """
        if not len(rows):
            return self.still(count)
        wide = 2 if count <= 0xFFFF else 4
        accessor = {"componentType": FLOAT, "count": count, "type": "VEC3"}
        if len(rows) * (12 + wide) >= count * 12:
            dense = np.zeros((count, 3), np.float32)
            dense[rows] = values
            accessor["bufferView"] = self.view(little_endian_bytes(dense), VERTEX_BUFFER)
        else:
            accessor["sparse"] = {
                "count": len(rows),
                "indices": {
                    "bufferView": self.view(little_endian_bytes(rows.astype(f"<u{wide}"))),
                    "componentType": COMPONENTS[f"u{wide}"],
                },
                "values": {"bufferView": self.view(little_endian_bytes(values.astype("<f4")))},
            }
        if bounds:
            low, high = values.min(0), values.max(0)
            if len(rows) < count:
                low, high = np.minimum(low, 0), np.maximum(high, 0)
            accessor |= {"min": low.astype(float).tolist(), "max": high.astype(float).tolist()}
        self.accessors.append(accessor)
        return len(self.accessors) - 1

    def still(self, count: int) -> int:
        """Index of an accessor of `count` zero vectors, one for all targets that move nothing.

        It stores the first vector. glTF allows an accessor without data, but assimp, Unity and older three.js refuse
        one.
        """
        if count not in self._still:
            first = np.zeros(1, np.int64), np.zeros((1, 3), np.float32)
            self._still[count] = self.sparse(count, *first, bounds=True)
        return self._still[count]


def little_endian_bytes(values: np.ndarray) -> bytes:
    """Bytes of an array, little-endian, row by row."""
    return values.astype(values.dtype.newbyteorder("<")).tobytes()
