"""Items that threads work on come back in order, and few are drawn ahead."""

import itertools

import pytest

from jaxdenoise.imaging.threads import cores, mapped


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads):
    assert list(mapped(lambda x: x * x, range(50), threads=threads)) == [x * x for x in range(50)]
    assert list(mapped(str, [], threads=threads)) == []


def test_few_items_are_drawn_ahead_of_the_results():
    drawn = []

    def items():
        for number in range(100):
            drawn.append(number)
            yield number

    results = mapped(lambda x: x, items(), threads=2)
    assert next(results) == 0
    assert len(drawn) <= 4
    assert list(itertools.islice(results, 3)) == [1, 2, 3]
    assert len(drawn) <= 7


def test_an_error_is_raised_in_its_turn():
    def inverse(x):
        return 1 / x

    results = mapped(inverse, [1, 2, 0, 4], threads=2)
    assert [next(results), next(results)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_process_may_use_at_least_one_core():
    assert cores() >= 1
