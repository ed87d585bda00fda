"""Signatures of bundles: bundles of people whose keys are trusted, told from all others before any of them is parsed.

Ed25519 (RFC 8032) over ``bundle.json``, which holds the size and the checksum of every other file.
"""

import base64
import hashlib
import json
import os
import re
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.bundles.manifest import AGAIN, NAME, SIGNATURE, content_of, no_plain_file
from suite.distribution import missing
from suite.errors import InputError
from suite.runtime import json_files
from suite.runtime.files import write_text

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CONTEXT = b"jax-model-suite: bundle\n"
"""What stands before ``bundle.json`` in what is signed, so that no signature of another purpose fits."""
MAKE = "openssl genpkey -algorithm ed25519 -out key.pem"
"""Makes a private key that its owner alone may read."""
PUBLIC = "openssl pkey -in {} -pubout -out {}"
"""Makes the public key of a private one."""
MOST = 1 << 16
"""Bytes of the largest key file and the largest signature."""
_PUBLIC_PEM = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)


@dataclass(frozen=True)
class Signer:
    """A private key.

    Attributes:
        key: of ``cryptography``.
        public: the bytes (32) of its public key.
    """

    key: "Ed25519PrivateKey"
    public: bytes

    @property
    def id(self) -> str:
        """See `key_id`."""
        return key_id(self.public)


def key_id(public: bytes) -> str:
    """What a public key is called, ``ed25519:`` and the first 16 digits of its SHA-256."""
    return f"ed25519:{hashlib.sha256(public).hexdigest()[:16]}"


def read_signer(path: str | Path) -> Signer:
    """The private key in a PEM file.

    Raises:
        InputError: there is no such file, others than its owner may read it, or it holds no Ed25519 key in the clear.
    """
    ed25519, serialization = _library()
    where, path = f'key file "{path}"', Path(path)
    text = _text(where, path, MAKE)
    if path.stat().st_mode & 0o077:
        problem = "may be read or written by others than its owner, and signs in the owner's name."
        found = f"mode {path.stat().st_mode & 0o777:o}"
        raise InputError(where, problem, found=found, fix=shlex.join(["chmod", "600", str(path)]))
    try:
        key = serialization.load_pem_private_key(text.encode(), None)
    except TypeError:  # so it says that a password is missing
        plain = shlex.join(["openssl", "pkey", "-in", str(path), "-out", f"{path}.plain"])
        fix = f"{plain} && {shlex.join(['chmod', '600', f'{path}.plain'])}"
        raise InputError(where, "is encrypted, and read without a password.", fix=fix) from None
    except Exception as error:  # of an unknown algorithm, of a library's kind
        raise InputError(where, "holds no private key in PEM.", found=_kind(text) or str(error), fix=MAKE) from None
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise InputError(where, "is no Ed25519 key.", found=type(key).__name__.lstrip("_"), fix=MAKE)
    return Signer(key, key.public_key().public_bytes_raw())


def read_trusted(source: str | Path) -> dict[bytes, str]:
    """Public keys, by their 32 bytes, with what they are called.

    Args:
        source: a PEM file of one or several, or a folder of such files, whose names that begin with a point are left
            out.

    Raises:
        InputError: there is none, or a file holds something else.
    """
    source = Path(source)
    paths = [source]
    if source.is_dir():
        paths = [path for path in sorted(source.iterdir()) if not path.name.startswith(".")]
    if not paths:
        fix = PUBLIC.format("key.pem", shlex.quote(str(source / "mine.pem")))
        raise InputError(f'folder of keys "{source}"', "holds no public key.", found="nothing", fix=fix)
    return {public: key_id(public) for path in paths for public in _public_keys(path)}


def _public_keys(path: Path) -> list[bytes]:
    ed25519, serialization = _library()
    where, fix = f'key file "{path}"', PUBLIC.format("key.pem", "public.pem")
    text = _text(where, path, fix)
    blocks = _PUBLIC_PEM.findall(text)
    if "PRIVATE KEY" in text:
        fix = PUBLIC.format(shlex.quote(str(path)), "public.pem")
        raise InputError(where, "holds a private key, which nobody but its owner needs.", fix=fix)
    if not blocks:
        raise InputError(where, "holds no public key in PEM.", found=_kind(text), fix=fix)
    keys = []
    for block in blocks:
        try:
            key = serialization.load_pem_public_key(block.encode())
        except Exception as error:  # of an unknown algorithm, of a library's kind
            raise InputError(
                where, "holds a public key that cannot be read.", found=f"{error!s:.200}", fix=fix
            ) from None
        if not isinstance(key, ed25519.Ed25519PublicKey):
            raise InputError(where, "holds a key that is none of Ed25519.", found=type(key).__name__, fix=MAKE)
        keys.append(key.public_bytes_raw())
    return keys


def _text(where: str, path: Path, fix: str) -> str:
    try:
        # Without waiting for a writer, which a pipe in a folder of keys may never have.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                kind = "a pipe" if stat.S_ISFIFO(mode) else "a device"
                raise InputError(where, "is no regular file.", found=kind, fix=fix)
            content = file.read(MOST + 1)
        if len(content) > MOST:
            raise InputError(where, "is too large for a key.", found=f"more than {MOST:,} bytes", fix=fix)
        return content.decode("ascii")
    except OSError as error:
        raise InputError(where, "cannot be read.", found=error.strerror or str(error), fix=fix) from None
    except UnicodeDecodeError:
        raise InputError(where, "is no PEM file.", found="bytes that are no text", fix=fix) from None


def _kind(text: str) -> str:
    """What a file that is not the wanted key calls itself."""
    named = re.search(r"-----BEGIN ([A-Z0-9 ]{1,60})-----", text)
    return named[1].lower() if named else "a key of SSH" if text.startswith("ssh-") else "another text"


def sign(folder: Path, signer: Signer) -> None:
    """Write the signature over a bundle that is complete; of one bundle and key always the same bytes."""
    content = {
        "algorithm": "ed25519",
        "key": base64.b64encode(signer.public).decode(),
        "signature": base64.b64encode(signer.key.sign(CONTEXT + (folder / NAME).read_bytes())).decode(),
    }
    write_text(folder / SIGNATURE, json.dumps(content, indent=1) + "\n")


def signed_by(folder: Path, stored: bytes, trust: str | Path = "") -> str:
    """What the key is called that signed a bundle, once the signature has been checked.

    Args:
        folder: of the bundle.
        stored: the bytes of its ``bundle.json``.
        trust: public keys, see `read_trusted`, one of which must have signed; empty: any, or none, may.

    Returns:
        Its name; empty where there is no signature, or nothing to check it with, and none is asked for.

    Raises:
        InputError: the signature does not fit ``stored``; or with ``trust``, there is none, or none of those keys'.
    """
    keys: Mapping[bytes, str] | None = read_trusted(trust) if str(trust) else None
    where, path = f'bundle "{folder}"', folder / SIGNATURE
    if path.is_symlink():
        raise no_plain_file(folder, SIGNATURE, "a link")
    if not path.is_file():
        if keys is None:
            return ""
        problem = "is not signed, and only bundles that are signed by a trusted key are opened."
        fix = "suite export RUN --to BUNDLE --sign key.pem"
        raise InputError(where, problem, found=f"no {SIGNATURE}", fix=fix)
    try:
        ed25519, _ = _library()
    except InputError:
        if keys is None:
            return ""
        raise
    public, signature = json_files.made_of(_stated(folder, where), _parts, f'{where}, file "{SIGNATURE}"', AGAIN)
    if keys is not None and public not in keys:
        found = f"{key_id(public)}, and trusted: {', '.join(sorted(keys.values()))}"
        fix = "the public key of its maker, if you trust them, among those of --trust"
        raise InputError(where, "is signed by a key that is not trusted.", found=found, fix=fix)
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public).verify(signature, CONTEXT + stored)
    except Exception:  # of two libraries' kinds
        problem = f"has a signature that does not fit its {NAME}: one of them was changed."
        raise InputError(where, problem, found=f"key {key_id(public)}", fix=AGAIN) from None
    return key_id(public)


def _stated(folder: Path, where: str) -> Any:
    return json_files.parse(content_of(folder, SIGNATURE, MOST), f'{where}, file "{SIGNATURE}"', AGAIN, strict=True)


def _parts(content: Any) -> tuple[bytes, bytes]:
    if not isinstance(content, dict):
        raise json_files.Malformed(f"no JSON object: {content!r:.60}")
    if content["algorithm"] != "ed25519":
        raise json_files.Malformed(f"algorithm {content['algorithm']!r:.60}")
    return _decoded(content, "key", 32), _decoded(content, "signature", 64)


def _decoded(content: Mapping[str, Any], name: str, size: int) -> bytes:
    """The bytes of a field in base64."""
    value = content[name]
    try:
        decoded = base64.b64decode(value.encode("ascii"), validate=True)
    except (AttributeError, ValueError):
        raise json_files.Malformed(f"{name} is no base64: {value!r:.60}") from None
    if len(decoded) != size:
        raise json_files.Malformed(f"{name} of {len(decoded)} bytes, not {size}")
    return decoded


def _library() -> tuple[Any, Any]:
    """The modules of Ed25519 keys and of PEM."""
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError as error:
        raise missing("cryptography", "for signatures of bundles", "sign") from error
    return ed25519, serialization
