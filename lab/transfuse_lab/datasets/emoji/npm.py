"""Packages of pinned content, fetched by the user's npm and read without unpacking."""

import base64
import hashlib
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from transfuse.errors import TransfuseError

PATIENCE = 600  # seconds for one package
LARGEST_PACKAGE = 256 * 2**20  # bytes of a packed package
MOST_MEMBERS = 100_000


@dataclass(frozen=True)
class Package:
    """One version of a package. integrity: the registry's own, ``sha512-`` and the digest in base64."""

    name: str
    version: str
    integrity: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


def fetch(package: Package, folder: Path) -> Path:
    """The package's tarball, laid into the folder by ``npm pack`` and checked against its integrity.

    No script of the package runs. Raises TransfuseError where npm is missing, fails, takes longer than
    ten minutes, or hands over anything but the pinned content.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise TransfuseError(
            f"{package} comes from the npm registry, and there is no npm here: install Node.js "
            "(https://nodejs.org) and give the command again"
        )
    command = [npm, "pack", str(package), "--ignore-scripts", "--loglevel=error"]
    try:
        done = subprocess.run(
            [*command, "--pack-destination", str(folder)],
            cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TransfuseError(f"npm could not fetch {package}: {error}"[:300]) from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").splitlines()
        reason = " ".join(re.sub(r"^npm (error|ERR!) ?", "", line) for line in lines[:4])[:300]
        raise TransfuseError(
            f"npm could not fetch {package}: {reason or 'it did not say why'}; look at the network and at "
            "`npm config get registry`, and give the command again"
        )
    path = folder / f"{package.name}-{package.version}.tgz"
    check(package, path)
    return path


def check(package: Package, path: Path) -> None:
    """Raises TransfuseError where the file is not, bit for bit, the pinned package."""
    if not path.is_file() or path.stat().st_size > LARGEST_PACKAGE:
        raise TransfuseError(f"npm fetched no {path.name}, or one larger than {LARGEST_PACKAGE} bytes")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha512").digest()
    found = "sha512-" + base64.b64encode(digest).decode()
    if found != package.integrity:
        raise TransfuseError(
            f"{package}: npm fetched other content than the pinned one (integrity {found}, not "
            f"{package.integrity}); look at `npm config get registry`, or `npm cache verify`"
        )


def members(path: Path, pattern: str, largest: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of every plain file in a tarball whose whole name matches the pattern.

    Nothing is written anywhere, so no name can lead anywhere. Raises TransfuseError for a file of more
    than ``largest`` bytes, a name that comes twice, and what is not a gzipped tarball.
    """
    wanted, seen = re.compile(pattern), set[str]()
    try:
        with tarfile.open(path, "r|gz") as archive:
            for number, member in enumerate(archive):
                if number >= MOST_MEMBERS:
                    raise TransfuseError(f"{path.name}: more than {MOST_MEMBERS} files")
                if not member.isreg() or not wanted.fullmatch(member.name):
                    continue
                if member.size > largest or member.name in seen:
                    raise TransfuseError(
                        f"{path.name}: {member.name!r:.100} comes twice or is larger than {largest} bytes"
                    )
                seen.add(member.name)
                file = archive.extractfile(member)
                yield member.name, file.read() if file else b""
    except (tarfile.TarError, EOFError, OSError) as error:
        raise TransfuseError(f"{path.name}: not a readable package: {str(error)[:200]}") from error
