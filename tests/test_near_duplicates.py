"""Nearly identical texts are found, and their groups joined."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from llm.near_duplicates import joined_groups, normalized

WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8)
ROWS = st.lists(st.tuples(WORDS.map(" ".join), st.integers(0, 30).map(str)), max_size=25)


def joined_by_comparing_all(texts, groups, threshold):
    """Compare every pair: the plain definition."""
    parent = {group: group for group in groups}

    def root(group):
        return group if parent[group] == group else root(parent[group])

    sets = [set(normalized(text).split()) for text in texts]
    for a, b in combinations(range(len(texts)), 2):
        shared = len(sets[a] & sets[b])
        if shared >= threshold * (len(sets[a]) + len(sets[b]) - shared):
            low, high = sorted((root(groups[a]), root(groups[b])))
            parent[high] = low
    return [root(group) for group in groups]


@given(ROWS, st.sampled_from([0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 1.0]))
def test_prefix_filtering_joins_what_comparing_all_pairs_joins(rows, threshold):
    texts, groups = [text for text, _ in rows], [group for _, group in rows]
    expected = joined_by_comparing_all(texts, groups, threshold)
    assert joined_groups(texts, groups, threshold=threshold) == expected


def test_case_punctuation_spacing_and_width_do_not_make_a_text_another():
    assert normalized("YAY!  Another good one.") == normalized("Yay, another good ｏne")


def test_a_text_without_words_stays_as_it_is():
    assert normalized(":)") == ":)"
    assert joined_groups([":)", ":("], ["a", "b"]) == ["a", "b"]
