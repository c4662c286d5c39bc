"""Groups that share nearly identical texts, joined, so that no split separates a text's copies."""

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

_WORD = re.compile(r"\w+")


def normalized(text: str) -> str:
    """Text without what people vary when they repeat it: case, punctuation, spacing.

    A text without any word, such as a smiley, stays as it is.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(_WORD.findall(folded)) or text


def joined_groups(
    texts: Sequence[str], groups: Sequence[str], *, threshold: float = 0.8
) -> list[str]:
    """Join groups that hold texts alike, directly or through others.

    Two texts are alike when the Jaccard similarity of their sets of words, ``|a & b| / |a | b|``,
    reaches ``threshold``. Candidates come from prefix filtering (Chaudhuri, Ganti and Kaushik,
    2006): with words ordered from rare to common, sets that similar share one of the first
    ``|a| - ceil(threshold |a|) + 1`` words.

    Parameters
    ----------
    texts : sequence of str, length n
        The texts.
    groups : sequence of str, length n
        The group of each text.
    threshold : float, optional
        In (0, 1].

    Returns
    -------
    list of str, length n
        The joined group of each text, named after its smallest member.
    """
    names = sorted(set(groups))
    number = {name: index for index, name in enumerate(names)}
    pairs = [
        (number[groups[a]], number[groups[b]])
        for a, b in _alike([set(normalized(text).split()) for text in texts], threshold)
    ]
    rows, columns = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    links = coo_array((np.ones(len(pairs)), (rows, columns)), shape=(len(names), len(names)))
    _, component = connected_components(links, directed=False)
    first: dict[int, str] = {}
    for name, label in zip(names, component.tolist(), strict=True):
        first.setdefault(label, name)
    return [first[int(component[number[group]])] for group in groups]


def _alike(sets: Sequence[set[str]], threshold: float) -> Iterator[tuple[int, int]]:
    frequency = Counter(word for words in sets for word in words)
    holders: defaultdict[str, list[int]] = defaultdict(list)
    # Small sets first: each is then compared with sets no larger than itself.
    for index in sorted(range(len(sets)), key=lambda i: (len(sets[i]), i)):
        words = sets[index]
        # Less a hair: 0.7 * 10 is 7.000000000000001 in binary.
        least = math.ceil(threshold * len(words) - 1e-9)
        rare_first = sorted(words, key=lambda word: (frequency[word], word))
        prefix = rare_first[: len(words) - least + 1]
        candidates = {other for word in prefix for other in holders[word]}
        for other in sorted(candidates):
            shared = len(words & sets[other])
            if shared >= threshold * (len(words) + len(sets[other]) - shared):
                yield other, index
        for word in prefix:
            holders[word].append(index)
