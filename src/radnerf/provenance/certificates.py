"""Whose signature goes under a file: a certificate made once on this machine, or the user's own.

A certificate that signs itself is refused by readers of content credentials, so there is an
authority and a certificate that it has signed. The authority's key is thrown away at once: it can
never sign another.
"""

from __future__ import annotations

import logging
import os
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from radnerf.errors import UserError
from radnerf.files import alone

if TYPE_CHECKING:
    from cryptography import x509

log = logging.getLogger(__name__)

ORGANISATION = "radnerf (certificate made on the user's machine)"
VALID_YEARS = 10
FILE = "signing.pem"


@dataclass(frozen=True)
class Identity:
    """A certificate with those that vouch for it, and its private key."""

    chain: str  # PEM, the signing certificate first
    key: str  # PEM
    algorithm: str  # of C2PA: es256, es384, es512, ed25519, ps256

    @classmethod
    def local(cls) -> Identity:
        """This machine's, made if there is none.

        Raises:
            UserError: it can be neither read nor made.
        """
        path = local_file()
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with alone(path.parent):
                if not path.is_file():
                    _write_secret(path, _make())
                    log.info("A certificate to sign with was made: %s", path)
        except OSError as error:
            raise UserError(
                f"{path} cannot be made ({error.strerror or error}): set XDG_CONFIG_HOME to a "
                "folder of yours, or leave signing out with provenance=none."
            ) from error
        return cls.of_file(path)

    @classmethod
    def of_file(cls, path: Path) -> Identity:
        """From a PEM file with the certificate, those that vouch for it, and the private key.

        Raises:
            UserError: it has not all of them, or they do not belong together.
        """
        from cryptography import x509
        from cryptography.hazmat.primitives import serialization

        try:
            content = path.read_bytes()
            chain = x509.load_pem_x509_certificates(content)
            start = content.index(b"-----BEGIN", content.find(b"PRIVATE KEY-----") - 32)
            key = serialization.load_pem_private_key(content[start:], password=None)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(
                f"{path} cannot sign ({error}): give a PEM file with the certificate first, then "
                "those that vouch for it, and the private key without a password."
            ) from error
        if chain[0].public_key() != key.public_key():
            raise UserError(f"{path} cannot sign: its first certificate is not that of its key.")
        secret = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return cls("".join(_pem(each) for each in chain), secret.decode(), _algorithm(key, path))

    @property
    def authority(self) -> str:
        """The last certificate of the chain, PEM."""
        return "-----BEGIN" + self.chain.rpartition("-----BEGIN")[2]


def local_file() -> Path:
    """Where this machine's certificate and key are."""
    home = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(home) / "radnerf" / FILE


def _algorithm(key: Any, path: Path) -> str:
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return "ed25519"
    if isinstance(key, rsa.RSAPrivateKey):
        return "ps256"
    curves = {"secp256r1": "es256", "secp384r1": "es384", "secp521r1": "es512"}
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in curves:
        return curves[key.curve.name]
    raise UserError(f"{path} cannot sign: its key is of a kind that content credentials exclude.")


def _pem(certificate: x509.Certificate) -> str:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _make() -> str:
    """A new certificate, its authority and its key, PEM."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    authority, own = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    number = secrets.token_hex(4)  # tells machines apart without naming them
    secret = own.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return (
        _pem(_certificate(f"signer {number}", own, f"authority {number}", authority, False))
        + _pem(
            _certificate(f"authority {number}", authority, f"authority {number}", authority, True)
        )
        + secret.decode()
    )


def _certificate(
    subject: str, key: Any, issuer: str, issuer_key: Any, authority: bool
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID

    now = datetime.now(timezone.utc)
    usage = dict.fromkeys(
        (
            *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
            *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
        ),
        False,
    )
    usage |= {"key_cert_sign": True} if authority else {"digital_signature": True}
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # clocks differ
        .not_valid_after(now + timedelta(days=365 * VALID_YEARS))
        .add_extension(x509.BasicConstraints(authority, 0 if authority else None), True)
        .add_extension(x509.KeyUsage(**usage), True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
    )
    if not authority:
        issued_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
        builder = builder.add_extension(issued_by, False).add_extension(purpose, False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(common: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, f"radnerf {common}"),
        ]
    )


def _write_secret(path: Path, text: str) -> None:
    """A file for its owner alone, whole or not at all."""
    part = path.with_suffix(f".{os.getpid()}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    part.replace(path)
