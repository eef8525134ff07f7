"""A page of ListObjectsV2 from a server, in the form of boto3's responses. Pure.

Encoded keys are not requested, since servers encode spaces differently. If keys contain characters that XML does not
allow, the page is invalid XML, and boto3 reads it instead.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any


def parse_page(data: bytes) -> dict[str, Any] | None:
    """The items, folders and continuation of a page; None if it is no such page, or lacks what we need of it."""
    from xml.etree import ElementTree

    try:
        root = ElementTree.fromstring(data)  # noqa: S314 - of the user's own server; expat bounds expansion
        return _page(root) if _name(root) == "ListBucketResult" else None
    except (ElementTree.ParseError, KeyError, ValueError):
        return None


def _page(root: Any) -> dict[str, Any]:
    contents, folders, page = [], [], {}
    for item in root:
        name = _name(item)
        if name == "Contents":
            contents.append(_entry(item))
        elif name == "CommonPrefixes":
            folders.append({"Prefix": _fields(item)["Prefix"]})
        elif name in ("IsTruncated", "NextContinuationToken"):
            page[name] = item.text or ""
        elif name == "EncodingType" and item.text:
            raise ValueError("keys are encoded")
    truncated = page.get("IsTruncated") == "true"
    if truncated and not page.get("NextContinuationToken"):
        raise ValueError("a page without a next one")
    return {
        "Contents": contents,
        "CommonPrefixes": folders,
        "IsTruncated": truncated,
        "NextContinuationToken": page.get("NextContinuationToken", ""),
    }


def _entry(item: Any) -> dict[str, Any]:
    fields = _fields(item)
    modified = datetime.fromisoformat(fields["LastModified"])
    if modified.tzinfo is None:
        raise ValueError("a time without a zone")
    return {
        "Key": fields["Key"],
        "Size": int(fields["Size"]),
        "LastModified": modified,
        "ETag": fields.get("ETag", ""),
    }


def _fields(item: Any) -> dict[str, str]:
    return {_name(child): child.text or "" for child in item}


def _name(item: Any) -> str:
    """A tag without its namespace."""
    return str(item.tag).rpartition("}")[2]
