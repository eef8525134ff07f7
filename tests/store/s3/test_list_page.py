"""A page of a listing is read as boto3 reads it, or not at all."""

from datetime import UTC, datetime

import pytest

from tsp.store.s3.list_page import parse_page

ENTRY = (
    "<Contents><Key>run/a b.pth</Key><LastModified>2030-01-02T03:04:05.678Z</LastModified><ETag>&quot;e&quot;</ETag>"
    "<Size>7</Size></Contents>"
)


def page(inner: str, name: str = "ListBucketResult") -> bytes:
    return f'<?xml version="1.0"?><{name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{inner}</{name}>'.encode()


def test_items_folders_and_the_next_page_are_read():
    found = parse_page(
        page(
            f"<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>{ENTRY}"
            "<CommonPrefixes><Prefix>run/</Prefix></CommonPrefixes>"
        )
    )
    modified = datetime(2030, 1, 2, 3, 4, 5, 678000, UTC)
    assert found == {
        "Contents": [{"Key": "run/a b.pth", "Size": 7, "LastModified": modified, "ETag": '"e"'}],
        "CommonPrefixes": [{"Prefix": "run/"}],
        "IsTruncated": True,
        "NextContinuationToken": "t",
    }


@pytest.mark.parametrize("inner", ["", "<IsTruncated>false</IsTruncated>", "<EncodingType/>"])
def test_an_empty_last_page_has_nothing_and_no_next_one(inner):
    found = parse_page(page(inner))
    assert found == {"Contents": [], "CommonPrefixes": [], "IsTruncated": False, "NextContinuationToken": ""}


def test_an_item_without_an_etag_has_none():
    (item,) = parse_page(page(ENTRY.replace("<ETag>&quot;e&quot;</ETag>", "")))["Contents"]
    assert item["ETag"] == ""


@pytest.mark.parametrize(
    "data",
    [
        b"no XML",
        page("", name="Error"),
        page("<IsTruncated>true</IsTruncated>"),
        page(f"<EncodingType>url</EncodingType>{ENTRY}"),
        page(ENTRY.replace("Key>", "Name>")),
        page(ENTRY.replace(">7<", ">seven<")),
        page(ENTRY.replace("678Z", "678")),
        page(ENTRY.replace("2030-", "MMXXX-")),
        page("<CommonPrefixes></CommonPrefixes>"),
    ],
)
def test_a_page_that_is_not_understood_is_left_to_boto3(data):
    assert parse_page(data) is None
