"""Content credentials (C2PA): a signed statement inside a file of what made it and out of what."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from radnerf.errors import UserError
from radnerf.files import passing
from radnerf.provenance.certificates import Identity, local_file

NAME = "radnerf"
ASSERTION = "org.radnerf.rendering"
TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
# IPTC digital source types: all of the picture is rendered, or a part of it.
RENDERED, COMPOSITE = "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia"
# Nothing is fetched: neither what a file's credentials point at, nor who was revoked.
_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
_UNKNOWN = "signingCredential.untrusted"


def installed() -> bool:
    """Whether the package that signs and reads is there."""
    return find_spec("c2pa") is not None


def sign(
    path: Path,
    identity: Identity,
    source_type: str,
    facts: dict[str, str],
    parent: Path | None = None,
) -> None:
    """Sign a finished mp4, mov or png in place.

    Args:
        source_type: RENDERED or COMPOSITE.
        facts: what it was made of, such as hashes; no paths and no names.
        parent: the video that this is an edit of; without one, the file is a new work.

    Raises:
        UserError: the certificate is refused, or the file cannot be written.
    """
    import c2pa

    manifest = {
        "claim_generator_info": [{"name": NAME, "version": version("radnerf")}],
        "assertions": [{"label": ASSERTION, "data": {"radnerf": version("radnerf"), **facts}}],
    }
    try:
        signer = c2pa.Signer.from_info(
            c2pa.C2paSignerInfo(
                identity.algorithm, identity.chain.encode(), identity.key.encode(), None
            )
        )
        builder = c2pa.Builder(manifest, c2pa.Context.from_dict(_settings(identity)))
        if parent is None:
            kinds = c2pa.C2paDigitalSourceType
            kind = {
                RENDERED: kinds.TRAINED_ALGORITHMIC_MEDIA,
                COMPOSITE: kinds.COMPOSITE_WITH_TRAINED_ALGORITHMIC_MEDIA,
            }[source_type]
            builder.set_intent(c2pa.C2paBuilderIntent.CREATE, kind)
        else:
            builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
            _add_parent(builder, parent)
            builder.add_action({"action": "c2pa.edited", "digitalSourceType": TYPES + source_type})
        with passing(path.with_name(f".signed{path.name}")) as signed:
            builder.sign_file(path, signed, signer)
            signed.replace(path)
    except c2pa.C2paError as error:
        raise UserError(
            f"{path.name} cannot be signed ({error}): give another certificate with "
            "provenance=FILE.pem, or leave signing out with provenance=none."
        ) from error


def _add_parent(builder: Any, parent: Path) -> None:
    """The original, by its content: its name may be that of a person."""
    suffix = parent.suffix.lstrip(".").lower()
    with parent.open("rb") as file:
        builder.add_ingredient({"relationship": "parentOf", "title": "original"}, suffix, file)


def _settings(identity: Identity | None) -> dict[str, Any]:
    if identity is None:
        return _OFFLINE
    return {**_OFFLINE, "trust": {"user_anchors": identity.authority}}


@dataclass
class Credentials:
    """What a file's content credentials say.

    Attributes:
        ours: this software is named as the maker, of the file or of one that it was made from.
        generator: name and version of what made the file.
        intact: the file and the statement are as they were signed.
        known: by a certificate that this machine has made.
        signer: organisation and name in the certificate.
        source_type: IPTC digital source type, without the address.
        facts: hashes and version, if ours.
        problems: codes of what is wrong with it.
    """

    ours: bool
    generator: str
    intact: bool
    known: bool
    signer: str
    source_type: str | None
    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read(path: Path) -> Credentials | None:
    """The content credentials of a file, or None if it has none.

    Raises:
        UserError: the package that reads them is not installed.
    """
    if not installed():
        raise UserError(NOT_INSTALLED)
    import c2pa

    identity = Identity.of_file(local_file()) if local_file().is_file() else None
    context = c2pa.Context.from_dict(_settings(identity))
    try:
        reader = c2pa.Reader(str(path), context=context)
        store = json.loads(reader.json())
    except (c2pa.C2paError.ManifestNotFound, c2pa.C2paError.NotSupported):
        return None
    except c2pa.C2paError as error:
        return Credentials(False, "unknown", False, False, "unknown", None, problems=[str(error)])
    return _understood(store)


NOT_INSTALLED = "content credentials need a package: pip install 'radnerf[provenance]'"


def _understood(store: dict[str, Any]) -> Credentials:
    manifests = store["manifests"]
    active = manifests[store["active_manifest"]]
    ours = [m for m in (active, *manifests.values()) if _generator(m)[0] == NAME]
    results = store.get("validation_results", {}).get("activeManifest", {})
    problems = [e["code"] for e in results.get("failure", []) if e["code"] != _UNKNOWN]
    signature = active.get("signature_info", {})
    types = [
        action.get("digitalSourceType", "")
        for assertion in active.get("assertions", [])
        if assertion["label"].startswith("c2pa.actions")
        for action in assertion["data"].get("actions", [])
    ]
    facts = [
        assertion["data"]
        for manifest in ours[:1]
        for assertion in manifest.get("assertions", [])
        if assertion["label"] == ASSERTION
    ]
    return Credentials(
        ours=bool(ours),
        generator=" ".join(_generator(active)),
        intact=not problems and store.get("validation_state") != "Invalid",
        known=store.get("validation_state") == "Trusted",
        signer=", ".join(signature[k] for k in ("issuer", "common_name") if signature.get(k)),
        source_type=next((t.removeprefix(TYPES) for t in types if t), None),
        facts={k: str(v) for k, v in facts[0].items()} if facts else {},
        problems=problems,
    )


def _generator(manifest: dict[str, Any]) -> tuple[str, str]:
    """Name and version of what made a manifest."""
    info = (manifest.get("claim_generator_info") or [{}])[0]
    return str(info.get("name", "unknown")), str(info.get("version", ""))
