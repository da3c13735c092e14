"""The page cache of the programs that are compared.

What was written a while ago lies there in large pieces, which kernels from 6.18 map whole: how much memory a program takes
would depend on who has written its file, and when. Read anew it lies there page by page, as after a boot.
"""
import os
import shutil
import subprocess


def forget(*programs):
    """Takes them and their libraries out of it; what is running just then stays."""
    os.sync()  # only what is on disk can go
    for program in filter(None, map(shutil.which, programs)):
        libraries = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout.split()
        for path in [program, *(word for word in libraries if word.startswith("/"))]:
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
