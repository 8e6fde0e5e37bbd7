"""S3 and servers that speak its protocol, by boto3: one put publishes an object whole, and If-None-Match creates it once.

Parts are far below the 5 GB of a single put, so nothing is ever uploaded in pieces that a killed writer could leave behind.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import boto3
from botocore import UNSIGNED
from botocore import exceptions as boto
from botocore.config import Config

from stl_ray.errors import InputError, StorageError
from stl_ray.store.files import FileInfo
from stl_ray.uri_options import options_of, refuse_credentials
from stl_ray.uris import joined, split

Result = TypeVar("Result")

PATIENCE_S = 120.0
"""Seconds for which a server that is away is waited for; then the operation fails."""

_IMPATIENCE_S = 1.0
_CONNECT_S, _ANSWER_S = 5, 30
_LONGEST_PAUSE_S = 5.0

_EXPLANATIONS = {
    "NoSuchBucket": "there is no such bucket",
    "NoSuchKey": "there is no such file",
    "404": "there is no such file",
    "AccessDenied": "permission denied",
    "403": "permission denied, or the key is not known there",  # a HEAD does not say more
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key is wrong",
    "ExpiredToken": "the credentials have expired",
    "InvalidToken": "the session token is wrong",
    "InvalidRange": "there are no bytes at that place",
    "416": "there are no bytes at that place",
    "PermanentRedirect": "the bucket is in another region",
    "AuthorizationHeaderMalformed": "the bucket is in another region",
    "QuotaExceeded": "the quota is used up",
    "RequestTimeTooSkewed": "the clock of this machine is wrong",
}
_MISSING = {"NoSuchKey", "404"}
_TAKEN = {"PreconditionFailed", "412"}
# 409: another request on the same object is under way, and who wins is not settled.
_AWAY_CODES = {
    "RequestTimeout", "SlowDown", "Throttling", "TooManyRequests", "ConditionalRequestConflict", "OperationAborted",
}  # fmt: skip
_AWAY = (
    boto.HTTPClientError, boto.ConnectionError, boto.IncompleteReadError, boto.MetadataRetrievalError,
    boto.CredentialRetrievalError, OSError,
)  # fmt: skip


@dataclass(frozen=True)
class S3Files:
    """Objects below s3://bucket/prefix (see `store.files.Files`).

    Args:
        root: the URI, perhaps with options: `uri_options` has them.
        patience: seconds for which a server that is away is waited for.
    """

    root: str
    patience: float = PATIENCE_S

    def impatient(self) -> "S3Files":
        """The same files, failing within about a second."""
        return replace(self, patience=_IMPATIENCE_S)

    def exists(self, path: str) -> bool:
        """Whether there is such an object, or one below it."""
        key, prefix = self._key(path), self._prefix(path)
        try:
            if key:  # the bucket itself is no object
                self._ask(path, lambda client: client.head_object(Bucket=self.bucket, Key=key))
                return True
        except _MissingError:
            pass
        page = self._ask(path, lambda client: client.list_objects_v2(Bucket=self.bucket, Prefix=prefix, MaxKeys=1))
        return bool(page.get("KeyCount"))

    def names(self, folder: str) -> list[str]:
        """Sorted names of the objects and folders directly in a folder."""
        prefix = self._prefix(folder)
        names = set()
        for page in self._pages(folder, prefix, Delimiter="/"):
            names |= {entry["Key"][len(prefix) :] for entry in page.get("Contents", ())}
            names |= {entry["Prefix"][len(prefix) : -1] for entry in page.get("CommonPrefixes", ())}
        return sorted(names - {""})

    def entries(self, folder: str) -> tuple[list[str], list[FileInfo]]:
        """Sorted names of the folders in a folder, and its objects."""
        prefix = self._prefix(folder)
        folders: list[str] = []
        files: list[FileInfo] = []
        for page in self._pages(folder, prefix, Delimiter="/"):
            folders += [entry["Prefix"][len(prefix) : -1] for entry in page.get("CommonPrefixes", ())]
            files += self._infos(page)
        return sorted(set(folders) - {""}), files

    def walk(self, folder: str) -> Iterator[FileInfo]:
        """Every object below a folder, in the order of their keys."""
        for page in self._pages(folder, self._prefix(folder)):
            yield from self._infos(page)

    def read(self, path: str, start: int = 0, length: int | None = None) -> bytes:
        """The bytes of an object from `start`, all when `length` is None."""
        if length == 0:
            return b""
        ranged = {"Range": f"bytes={start}-{'' if length is None else start + length - 1}"} if start or length else {}

        def get(client: Any) -> bytes:
            data: bytes = client.get_object(Bucket=self.bucket, Key=self._key(path), **ranged)["Body"].read()
            return data

        return self._ask(path, get)

    def size(self, path: str) -> int:
        """Bytes of an object."""
        return int(self._ask(path, lambda c: c.head_object(Bucket=self.bucket, Key=self._key(path)))["ContentLength"])

    def write(self, path: str, data: bytes) -> None:
        """Put a whole object in place."""
        self._ask(path, lambda client: client.put_object(Bucket=self.bucket, Key=self._key(path), Body=data))

    def write_file(self, path: str, source: Path) -> None:
        """Put a whole object in place with the bytes of a file on this machine."""

        def put(client: Any) -> None:
            with source.open("rb") as data:
                client.put_object(Bucket=self.bucket, Key=self._key(path), Body=data)

        self._ask(path, put)

    def create(self, path: str, data: bytes) -> bool:
        """Put a whole object in place unless there is one; whether this call did it."""
        return self.replace(path, data, None) is not None

    def replace(self, path: str, data: bytes, tag: str | None) -> str | None:
        """Put an object in place of the one with this ETag (None: only if there is none).

        Returns:
            The new ETag; None if there is another object, or none any more.
        """
        # Without its quotes, with which Ceph matches no ETag.
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        tries = 0

        def put(client: Any) -> str:
            nonlocal tries
            tries += 1
            answer = client.put_object(Bucket=self.bucket, Key=self._key(path), Body=data, **condition)
            return str(answer["ETag"]).strip('"')

        try:
            return self._ask(path, put)
        except _MissingError:
            return None
        except _TakenError:
            # A repeated put whose first answer was lost meets the object that it put itself.
            current = self.tagged(path) if tries > 1 else None
            return current[1] if current is not None and current[0] == data else None

    def tagged(self, path: str) -> tuple[bytes, str] | None:
        """The bytes of an object and its ETag; None if there is none."""

        def get(client: Any) -> tuple[bytes, str]:
            answer = client.get_object(Bucket=self.bucket, Key=self._key(path))
            return answer["Body"].read(), str(answer["ETag"]).strip('"')

        try:
            return self._ask(path, get)
        except _MissingError:
            return None

    def delete(self, path: str) -> None:
        """Remove an object; no error if it is not there."""
        self._ask(path, lambda client: client.delete_object(Bucket=self.bucket, Key=self._key(path)))

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return split(self.root).host

    def _key(self, path: str) -> str:
        return "/".join(part for part in (split(self.root).key, path) if part)

    def _prefix(self, folder: str) -> str:
        key = self._key(folder)
        return f"{key}/" if key else ""

    def _infos(self, page: dict[str, Any]) -> Iterator[FileInfo]:
        """The objects of a page of a listing."""
        skipped = len(self._prefix(""))
        for entry in page.get("Contents", ()):
            if not entry["Key"].endswith("/"):  # some tools mark folders so
                yield FileInfo(entry["Key"][skipped:], entry["Size"], entry["ETag"].strip('"'))

    def _pages(self, folder: str, prefix: str, **options: Any) -> Iterator[dict[str, Any]]:
        """The pages of a listing; each is asked for until it comes."""
        token: dict[str, str] = {}
        while True:
            request = {"Bucket": self.bucket, "Prefix": prefix, **options, **token}
            page = self._ask(folder, lambda client, request=request: client.list_objects_v2(**request))  # type: ignore[misc]
            yield page
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def _ask(self, path: str, request: Callable[[Any], Result]) -> Result:
        """The answer to a request, asked again while the server is away.

        Raises:
            InputError: the bucket's name, the region or the endpoint cannot be one.
            StorageError: if it refuses, or does not answer within `patience` seconds.
        """
        item = joined(self.root, path)
        deadline, pause = time.monotonic() + self.patience, 0.2
        while True:
            try:
                return request(_client(split(self.root).options))
            except boto.ClientError as error:
                code = str(error.response.get("Error", {}).get("Code", ""))
                status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
                if code in _TAKEN or status == 412:
                    raise _TakenError("another writer was first", item=item) from None
                if code in _MISSING:
                    raise _MissingError(_EXPLANATIONS[code], item=item) from None
                trouble = StorageError(_EXPLANATIONS.get(code, f"the server refused ({code or status})"), item=item)
                if status < 500 and code not in _AWAY_CODES:
                    raise trouble from None
            except boto.NoCredentialsError as error:
                # Asked again: the service that hands out a role's keys may not answer all of many starting processes.
                text = f"{str(error).rstrip('.').lower()}; give credentials by the environment, a profile or a role"
                trouble = StorageError(text, item=item)
            except _AWAY as error:
                # Its text names the endpoint, never a key.
                trouble = StorageError(f"the server cannot be reached ({error})", item=item)
            except boto.BotoCoreError as error:
                # Parameters are the names of bucket and key.
                kind = InputError if isinstance(error, boto.ParamValidationError) else StorageError
                raise kind(f"S3 cannot be used like this ({error})", item=item) from None
            if time.monotonic() + pause > deadline:
                raise trouble from None
            # Random by design: it only keeps waiting processes apart, and no result depends on it.
            time.sleep(pause * random.uniform(0.5, 1))
            pause = min(2 * pause, _LONGEST_PAUSE_S)


class _MissingError(StorageError):
    """There is no such object."""


class _TakenError(StorageError):
    """The object exists already, or was replaced by another."""


@lru_cache(maxsize=16)
def _client(given: str) -> Any:
    """The client of this process for the options of a URI; safe to use from many threads."""
    options = options_of(given)
    anonymous = options.get("anonymous") == "true"
    endpoint = options.get("endpoint_url") or options.get("endpoint_override")
    if endpoint and "://" not in endpoint:
        endpoint = f"{options.get('scheme', 'https')}://{endpoint}"
    config = Config(
        connect_timeout=_CONNECT_S,
        read_timeout=_ANSWER_S,
        # `_ask` repeats requests itself, since `replace` must know of it.
        retries={"mode": "standard", "total_max_attempts": 1},
        max_pool_connections=32,
        signature_version=UNSIGNED if anonymous else None,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    session = boto3.session.Session()
    if not anonymous and session.get_credentials() is None:
        raise boto.NoCredentialsError  # a client keeps what it was made with
    try:
        client = session.client("s3", endpoint_url=endpoint, region_name=options.get("region"), config=config)
    except boto.InvalidRegionError as error:
        raise InputError(str(error).rstrip("."), item="S3", expected="such as us-east-1") from None
    except ValueError:
        # Without its text, which repeats the endpoint and so may hold a password.
        raise InputError("the endpoint is not a URL", item="S3", expected="such as http://host:port") from None
    refuse_credentials(client.meta.endpoint_url)
    return client
