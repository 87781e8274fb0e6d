"""Fields that readers of metadata look for: IPTC's digital source type, and AIGC (GB 45438-2025).

They are written before a file is signed, so that its signature covers them.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from xml.sax.saxutils import quoteattr

from jaxtyping import UInt8
from numpy import ndarray
from PIL import Image, PngImagePlugin

from radnerf.provenance.credentials import NAME, TYPES

_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # ISO 16684-3
_PNG_XMP = "XML:com.adobe.xmp"


def aigc(facts: dict[str, str]) -> str:
    """The field of that name, JSON: generated (1), by what, and a number of this content."""
    number = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    known = {"Label": "1", "ContentProducer": f"{NAME} {version('radnerf')}", "ProduceID": number}
    empty = ("ReservedCode1", "ContentPropagator", "PropagateID", "ReservedCode2")
    return json.dumps(known | dict.fromkeys(empty, ""))


def xmp(source_type: str, facts: dict[str, str]) -> str:
    """An XMP packet with both fields.

    Args:
        source_type: IPTC digital source type, without the address.
    """
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about=""'
        ' xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"'
        ' xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/"'
        f" Iptc4xmpExt:DigitalSourceType={quoteattr(TYPES + source_type)}"
        f" TC260:AIGC={quoteattr(aigc(facts))}/>"
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def append_xmp(video: Path, packet: str) -> None:
    """Put an XMP packet at the end of a finished mp4 or mov."""
    content = _XMP_BOX + packet.encode()
    with video.open("ab") as file:
        file.write((8 + len(content)).to_bytes(4, "big") + b"uuid" + content)


def write_png(path: Path, picture: UInt8[ndarray, "h w 3"], packet: str | None) -> None:
    """A PNG with an XMP packet, or without."""
    fields = PngImagePlugin.PngInfo()
    if packet is not None:
        fields.add_itxt(_PNG_XMP, packet)
    Image.fromarray(picture).save(path, "PNG", pnginfo=fields, compress_level=1)
