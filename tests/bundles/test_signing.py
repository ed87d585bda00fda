"""Signatures of bundles: who signed, what they cover, which keys are read, and what is refused in words."""

import base64
import json
import os
import shutil
import subprocess

import pytest

import suite
from suite.bundles import signing
from suite.bundles.bundle import Bundle
from suite.errors import InputError
from suite.exporting import exporting, refreshing
from suite.workflow import publishing
from tests.untrained import copied, resealed

pytest.importorskip("cryptography")


def openssl(*arguments):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """A folder with mine.pem and other.pem, private, made as the documentation says; in public/ the key of mine.pem."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "public").mkdir()
    for name in ("mine", "other"):
        openssl("genpkey", "-algorithm", "ed25519", "-out", folder / f"{name}.pem")
        openssl("pkey", "-in", folder / f"{name}.pem", "-pubout", "-out", folder / f"{name}-public.pem")
    shutil.copy(folder / "mine-public.pem", folder / "public")
    return folder


@pytest.fixture
def signed(exported, keys, tmp_path):
    """A bundle signed with mine.pem."""
    folder = copied(exported("images")[1], tmp_path / "bundle")
    signing.sign(folder, signing.read_signer(keys / "mine.pem"))
    return folder


def refusal(call, *arguments, **options):
    with pytest.raises(InputError) as error:
        call(*arguments, **options)
    return str(error.value)


def test_who_signed_is_told(signed, keys, exported):
    mine = signing.read_signer(keys / "mine.pem").id
    assert mine.startswith("ed25519:") and len(mine) == 24
    for trust in ("", keys / "public", keys / "mine-public.pem"):
        bundle = Bundle.open(signed, trust=trust)
        assert bundle.signed_by == mine and bundle.version == exported("images")[1].version
    assert exported("images")[1].signed_by == ""
    assert suite.open(signed, trust=keys / "public").signed_by == mine


def test_several_keys_in_one_file(signed, keys, tmp_path):
    both = "".join((keys / f"{name}-public.pem").read_text() for name in ("other", "mine"))
    (tmp_path / "both.pem").write_text(both)
    assert len(signing.read_trusted(tmp_path / "both.pem")) == 2
    assert Bundle.open(signed, trust=tmp_path / "both.pem").signed_by


def test_an_unsigned_bundle(signed, keys):
    (signed / "signature.json").unlink()
    assert Bundle.open(signed).signed_by == ""
    assert refusal(Bundle.open, signed, trust=keys / "public") == (
        f'bundle "{signed}": is not signed, and only bundles that are signed by a trusted key are opened.\n'
        "  found: no signature.json\n  try:   suite export RUN --to BUNDLE --sign key.pem"
    )


def test_a_bundle_that_a_stranger_signed(signed, keys):
    other = signing.read_signer(keys / "other.pem")
    signing.sign(signed, other)
    assert Bundle.open(signed).signed_by == other.id
    said = refusal(Bundle.open, signed, trust=keys / "public")
    assert f"is signed by a key that is not trusted.\n  found: {other.id}, and trusted: ed25519:" in said


def test_a_strangers_signature_under_a_trusted_name(signed, keys):
    """The key that is stated is the trusted one, the signature another's."""
    mine = json.loads((signed / "signature.json").read_text())
    signing.sign(signed, signing.read_signer(keys / "other.pem"))
    other = json.loads((signed / "signature.json").read_text())
    (signed / "signature.json").write_text(json.dumps({**other, "key": mine["key"]}))
    for trust in ("", keys / "public"):
        assert "has a signature that does not fit its bundle.json" in refusal(Bundle.open, signed, trust=trust)


@pytest.mark.parametrize("name", ["weights.safetensors", "program/0.stablehlo", "assets/labels.json", "model_card.md"])
def test_every_file_is_covered(name, signed, keys):
    """Changed; and changed by someone who makes the checksums fit."""
    content = (signed / name).read_bytes()
    (signed / name).write_bytes(bytes([*content[:-1], content[-1] ^ 1]))
    assert "its checksum differs" in refusal(Bundle.open, signed, trust=keys / "public")
    resealed(signed)
    assert "has a signature that does not fit its bundle.json" in refusal(Bundle.open, signed, trust=keys / "public")


def test_nothing_is_parsed_before_the_signature_is_checked(signed, keys):
    (signed / "bundle.json").write_bytes(b"[" * 100_000)
    assert "has a signature that does not fit" in refusal(Bundle.open, signed, trust=keys / "public")


def test_a_signature_of_another_bundle(signed, exported, keys, tmp_path):
    other = copied(exported("clicks")[1], tmp_path / "clicks")
    shutil.copy(signed / "signature.json", other)
    assert "has a signature that does not fit" in refusal(Bundle.open, other, trust=keys / "public")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{" * 100_000,
        b" " * (1 << 17),
        b'{"algorithm": "rsa"}',
        b'{"algorithm": "ed25519", "key": 7, "signature": null}',
        b'{"algorithm": "ed25519", "key": "AAAA", "signature": "AAAA"}',
        json.dumps({"algorithm": "ed25519", "key": "AA", "signature": base64.b64encode(bytes(64)).decode()}).encode(),
    ],
)
def test_signatures_that_are_none(content, signed, keys):
    (signed / "signature.json").write_bytes(content)
    for trust in ("", keys / "public"):
        said = refusal(Bundle.open, signed, trust=trust)
        assert said.startswith(f'bundle "{signed}", file "signature.json": ')
        assert said.endswith("  try:   fetch the bundle again, or export the run again")


def test_a_signature_that_is_a_link(signed, keys, tmp_path):
    (signed / "signature.json").rename(tmp_path / "elsewhere.json")
    (signed / "signature.json").symlink_to(tmp_path / "elsewhere.json")
    assert "holds something that is no plain file" in refusal(Bundle.open, signed, trust=keys / "public")


def test_private_keys_that_are_refused(keys, tmp_path):
    key = tmp_path / "key.pem"
    make = f"\n  try:   {signing.MAKE}"
    assert (
        refusal(signing.read_signer, key)
        == f'key file "{key}": cannot be read.\n  found: No such file or directory{make}'
    )
    shutil.copy(keys / "mine.pem", key)
    os.chmod(key, 0o640)
    assert refusal(signing.read_signer, key) == (
        f'key file "{key}": may be read or written by others than its owner, and signs in the owner\'s name.\n'
        f"  found: mode 640\n  try:   chmod 600 {key}"
    )
    key.unlink()
    openssl("genpkey", "-algorithm", "ed25519", "-aes256", "-pass", "pass:secret", "-out", key)
    assert refusal(signing.read_signer, key) == (
        f'key file "{key}": is encrypted, and read without a password.\n'
        f"  try:   openssl pkey -in {key} -out {key}.plain && chmod 600 {key}.plain"
    )
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key)
    assert refusal(signing.read_signer, key) == f'key file "{key}": is no Ed25519 key.\n  found: RSAPrivateKey{make}'
    for content, found in (
        ((keys / "mine-public.pem").read_text(), "public key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "openssh private key"),
        ("ssh-ed25519 AAAA me@home\n", "a key of SSH"),
        ("not a key", "another text"),
    ):
        key.write_text(content)
        assert (
            refusal(signing.read_signer, key)
            == f'key file "{key}": holds no private key in PEM.\n  found: {found}{make}'
        )
    key.write_bytes(b"\xff" * 9)
    assert "is no PEM file" in refusal(signing.read_signer, key)
    key.write_bytes(b"x" * (1 << 17))
    assert "is too large for a key" in refusal(signing.read_signer, key)


def test_public_keys_that_are_refused(keys, tmp_path):
    folder = tmp_path / "trusted"
    folder.mkdir()
    assert refusal(signing.read_trusted, folder) == (
        f'folder of keys "{folder}": holds no public key.\n  found: nothing\n'
        f"  try:   openssl pkey -in key.pem -pubout -out {folder}/mine.pem"
    )
    assert "cannot be read.\n  found: No such file" in refusal(signing.read_trusted, tmp_path / "absent")
    shutil.copy(keys / "public" / "mine-public.pem", folder)
    shutil.copy(keys / "mine.pem", folder / "private.pem")
    assert refusal(signing.read_trusted, folder) == (
        f'key file "{folder}/private.pem": holds a private key, which nobody but its owner needs.\n'
        f"  try:   openssl pkey -in {folder}/private.pem -pubout -out public.pem"
    )
    (folder / "private.pem").write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    assert "holds a public key that cannot be read" in refusal(signing.read_trusted, folder)
    openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", tmp_path / "rsa.pem")
    openssl("pkey", "-in", tmp_path / "rsa.pem", "-pubout", "-out", folder / "private.pem")
    assert "holds a key that is none of Ed25519.\n  found: RSAPublicKey" in refusal(signing.read_trusted, folder)
    (folder / "private.pem").rename(folder / ".hidden")
    assert len(signing.read_trusted(folder)) == 1


def test_export_and_refresh_sign(exported, keys, tmp_path, command, refused):
    run = exported("images")[0]
    mine = signing.read_signer(keys / "mine.pem").id
    twice = [exporting.export(run, tmp_path / name, name="digits", sign=keys / "mine.pem") for name in ("one", "two")]
    assert {made.signed_by for made in twice} == {mine}
    assert len({(made.folder / "signature.json").read_bytes() for made in twice}) == 1
    refreshed = refreshing.refresh(twice[0].folder, tmp_path / "three", sign=keys / "mine.pem")
    assert refreshed.signed_by == mine == Bundle.open(tmp_path / "three", trust=keys / "public").signed_by
    printed = command(
        "export", "--refresh", tmp_path / "three", "--to", tmp_path / "four", "--sign", keys / "other.pem"
    )
    assert f"signed with the key {signing.read_signer(keys / 'other.pem').id}" in printed
    command("export", "--refresh", tmp_path / "four")
    assert not (tmp_path / "four" / "signature.json").exists()
    missing = tmp_path / "missing.pem"
    assert "cannot be read" in refused("export", run.folder, "--to", tmp_path / "five", "--sign", missing)
    assert not (tmp_path / "five").exists()


def test_predict_and_evaluate_trust(signed, exported, keys, command, refused, tmp_path):
    run, bundle = exported("images")
    picture = tmp_path / "a.png"
    from PIL import Image

    Image.new("L", (8, 8)).save(picture)
    told = command("predict", signed, "--input", picture, "--trust", keys / "public")
    assert told == command("predict", bundle.folder, "--input", picture)
    assert "is not signed" in refused("predict", bundle.folder, "--input", picture, "--trust", keys / "public")
    assert "is not signed" in refused("evaluate", bundle.folder, "--trust", keys / "public")
    assert "test/accuracy" in command("evaluate", signed, "--trust", keys / "public")
    said = f"flag --trust: is for bundles: nothing else is signed.\n  found: {run.folder}\n"
    assert said in refused("predict", run.folder, "--input", picture, "--trust", keys / "public")
    assert said in refused("evaluate", run.folder, "--trust", keys / "public")


def test_publish_signs(exported, keys, tmp_path):
    run, bundle = exported("images")
    mine = signing.read_signer(keys / "mine.pem").id
    publishing.compose(bundle.folder, tmp_path / "sent", "me/digits", sign=keys / "mine.pem")
    assert Bundle.open(tmp_path / "sent" / "bundle", trust=keys / "public").signed_by == mine
    assert f"Signed with the key `{mine}`" in (tmp_path / "sent" / "README.md").read_text()
    assert not (bundle.folder / "signature.json").exists()
    said = refusal(publishing.compose, run.folder, tmp_path / "run", "me/digits", sign=keys / "mine.pem")
    assert said.startswith("flag --sign: is for bundles: the weights of a run are not signed.")


def test_without_cryptography(signed, keys, child):
    """Bundles are opened all the same, and told apart from signed ones; with --trust, what is missing is said."""
    code = f"""
import sys
sys.modules["cryptography"] = None
from suite.bundles.bundle import Bundle
from suite.errors import InputError
print(repr(Bundle.open({str(signed)!r}).signed_by))
try:
    Bundle.open({str(signed)!r}, trust={str(keys / "public")!r})
except InputError as error:
    print(error)
"""
    first, second, third = child(code).splitlines()
    assert first == "''" and second == "package cryptography: is needed for signatures of bundles, and not installed."
    assert third.endswith("[sign]'")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"algorithm": None}, "algorithm None"),
        ({"key": None}, "key is no base64: None"),
        ({"signature": "!!!"}, "signature is no base64: '!!!'"),
        ({"signature": "AAAA"}, "signature of 3 bytes, not 64"),
    ],
)
def test_a_signature_of_another_form_is_told_by_its_field(signed, change, said):
    path = signed / "signature.json"
    stored = json.loads(path.read_text())
    path.write_text(json.dumps({**stored, **change}))
    problem = "has not the form that it was written in."
    assert f'file "signature.json": {problem}\n  found: {said}\n' in refusal(Bundle.open, signed)
    path.write_text(json.dumps({name: value for name, value in stored.items() if name not in change}))
    assert f'found: no field "{next(iter(change))}"' in refusal(Bundle.open, signed)
    path.write_text('{"key": "", ' + json.dumps(stored)[1:])
    assert "has a key twice in one object.\n  found: 'key'" in refusal(Bundle.open, signed)


def test_a_key_is_a_regular_file(tmp_path):
    """A pipe that nobody writes to would be waited for."""
    os.mkfifo(tmp_path / "key.pem")
    for source in (tmp_path, tmp_path / "key.pem"):
        assert "is no regular file.\n  found: a pipe" in refusal(signing.read_trusted, source)
    assert "is no regular file.\n  found: a pipe" in refusal(signing.read_signer, tmp_path / "key.pem")
    assert "is no regular file.\n  found: a device" in refusal(signing.read_trusted, "/dev/zero")
