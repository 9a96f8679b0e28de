"""Takes the server's memory away, for real: allocations beyond the limit fail until another prompt lifts it."""

import resource


def address_space() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[0]) * resource.getpagesize()


class TestLimitMemory:
    CATEGORY = "test"
    FUNCTION = "limit"
    RETURN_TYPES = ("STRING",)
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"megabytes_left": ("INT", {"default": 0, "min": 0})}}

    def limit(self, megabytes_left):
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        left = address_space() + megabytes_left * 2**20 if megabytes_left else hard
        resource.setrlimit(resource.RLIMIT_AS, (left, hard))
        return (str(left),)
