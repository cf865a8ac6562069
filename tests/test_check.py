"""What the checks say to a student, and what they refuse."""

import functools
import linecache
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
import torch

from coursepkg import check, memory
from coursepkg.check import CheckFailed, Refused, case, ownwork
from coursepkg.check.compare import difference
from coursepkg.check.limits import TookTooLong, within


def written(source: str, **names):
    """The last function defined by `source`, as a notebook's cell would define it."""
    source = textwrap.dedent(source)
    filename = f"<cell {abs(hash(source))}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    namespace = {**names, "__name__": "__main__"}
    exec(compile(source, filename, "exec"), namespace)
    return [v for v in namespace.values() if callable(v) and getattr(v, "__module__", "") == "__main__"][-1]


def failure(answer, *cases, run=check.function, **options) -> str:
    with pytest.raises(CheckFailed) as caught:
        run(answer, cases, **options)
    return str(caught.value)


double = written("def double(x):\n    return 2 * x\n")


class TestMessages:
    def test_passing_prints_one_line(self, capsys):
        check.function(double, [case(1, expected=2), case(2, expected=4)])
        assert capsys.readouterr().out == "double: 2 checks passed.\n"

    def test_failing_says_call_result_expectation_and_hint(self):
        text = failure(double, case(3, expected=12, hint="Twice?", label="odd number"))
        assert text == "double(3) (odd number)\nreturned 6; expected 12; yours is half that.\nHint: Twice?"

    def test_gb_for_gib_is_named(self):
        assert "as GB and GiB do" in difference(2**30 * 7 / 2**30, 7 * 2**30 / 1e9)

    def test_a_raised_error_names_the_line_of_the_cell(self):
        answer = written("def broken(x):\n    y = x\n    return y / 0\n")
        text = failure(answer, case(1, expected=1, hint="Add one."))
        assert text == "broken(1)\nraised ZeroDivisionError: division by zero (line 3 of your cell)."

    def test_unwritten_and_missing_return(self):
        todo = written("def todo(x):\n    raise NotImplementedError\n")
        assert "not written yet" in failure(todo, case(1, expected=1))
        silent = written("def silent(x):\n    x + 1\n")
        assert "has no return statement" in failure(silent, case(1, expected=2))

    def test_hints_are_about_values_and_not_about_kinds(self):
        half = written("def half(x):\n    return x / 2\n")
        text = failure(half, case(4, expected=2, hint="Divide by two."))
        assert text == "half(4)\nreturned 2.0; expected a whole number (an int), 2, not a float."

    def test_an_answer_that_changes_its_argument_is_shown_the_call_as_it_was(self):
        takes = written("def takes(x):\n    x.clear()\n    return 1\n")
        given = case([7], expected=2)
        assert failure(takes, given).startswith("takes([7])\n") and given.args == ([7],)

    def test_keys_and_entries_are_named(self):
        assert difference({"a": 1, "c": 2}, {"a": 1, "b": 2}).endswith("missing: 'b', not expected: 'c'")
        assert difference({"a": 1}, {"a": 2}) == "'a' is 1: expected 2; yours is half that"
        assert difference([1, 3], [1, 2]) == "position 1 is 3: expected 2"

    def test_an_expected_error(self, capsys):
        strict = written("def strict(x):\n    raise ValueError('no')\n")
        check.function(strict, [case(1, expected=ValueError)])
        assert "should raise ValueError" in failure(double, case(1, expected=ValueError))

    def test_not_a_function(self):
        assert "expected a function, and this is 3" in failure(3, case(1, expected=1))

    def test_a_notebook_shows_the_message_alone(self):
        assert CheckFailed("said")._render_traceback_() == ["Not yet: said"]

    def test_a_stub_is_no_answer_to_an_expected_error(self):
        todo = written("def todo(x):\n    raise NotImplementedError\n")
        assert "not written yet" in failure(todo, case(1, expected=RuntimeError))

    def test_an_expected_error_must_name_what_it_should(self, capsys):
        bare = written("def bare(x):\n    raise ValueError('no')\n")
        assert "should name left" in failure(bare, case(1, expected=ValueError, naming=["left"]))
        told = written("def told(x):\n    raise ValueError('left or right')\n")
        check.function(told, [case(1, expected=ValueError, naming=["left", "right"])])

    def test_an_answer_without_a_name(self, capsys):
        check.function(functools.partial(double), [case(2, expected=4)])
        assert capsys.readouterr().out == "your function: 1 check passed.\n"


class TestHidden:
    @pytest.mark.parametrize(
        "body",
        [
            "return x + 7777",
            "raise ValueError(x)",
            "raise type(f'Got{x}', (Exception,), {})",
            "return str(x)",
            "return [x]",
            "while True: pass",
        ],
    )
    def test_message_has_neither_input_nor_expected_value(self, body, monkeypatch):
        monkeypatch.setattr("coursepkg.check.functions.SECONDS", 0.2)
        answer = written(f"def answer(x):\n    {body}\n")
        text = failure(answer, case(424242, expected=848484, label="large", hint="Twice."), run=check.hidden)
        assert "(large)" in text
        assert not any(secret in text for secret in ("4242", "8484", "7777"))

    def test_the_cause_is_not_chained(self):
        answer = written("def answer(x):\n    raise ValueError(x)\n")
        with pytest.raises(CheckFailed) as caught:
            check.hidden(answer, [case(424242, expected=1)])
        assert caught.value.__cause__ is None and caught.value.__suppress_context__


class TestComparing:
    @pytest.mark.parametrize(
        ("got", "expected"),
        [
            *[(2.0, 2), (True, 1), (3, 2), ("2", 2), (None, 2), (float("nan"), 2.0), (1.0 + 1e-6, 1.0)],
            *[([1], [1, 2]), ({"a": 1}, {"b": 1}), ({"a": 1}, {"a": 2}), (1, True), ("a", "b"), (0.0, 1e-9)],
            *[(torch.ones(2), torch.ones(3)), (torch.ones(2), torch.ones(2, dtype=torch.float64))],
            *[
                (np.ones(2), torch.ones(2)),
                (torch.tensor([1.0, 2.0]), torch.tensor([1.0, 3.0])),
                (torch.tensor([2**53 + 1]), torch.tensor([2**53])),
                (torch.tensor([1 + 1j]), torch.tensor([1 + 2j])),
                (np.array([True]), np.array([False])),
            ],
        ],
    )
    def test_different(self, got, expected):
        assert difference(got, expected) is not None

    @pytest.mark.parametrize(
        ("got", "expected"),
        [
            *[
                (np.int64(2), 2),
                (2, 2.0),
                (1.0 + 1e-12, 1.0),
                (1e-17, 0.0),
                ((1, 2), [1, 2]),
                ({"a": 1.0}, {"a": 1.0}),
            ],
            *[(torch.ones(2), torch.ones(2)), (np.array([1, np.nan]), np.array([1, np.nan]))],
        ],
    )
    def test_equal(self, got, expected):
        assert difference(got, expected) is None

    def test_an_object_that_equals_everything_equals_nothing(self):
        class Anything:
            def __eq__(self, other):
                return True

        assert all(difference(Anything(), value) for value in (1, 1.0, "a", [1], {"a": 1}, torch.ones(1)))


class TestLimit:
    def test_a_loop_ends_and_is_told(self, monkeypatch):
        monkeypatch.setattr("coursepkg.check.functions.SECONDS", 0.2)
        looping = written(
            "def looping(x):\n    while True:\n        try:\n            x += 1\n        except Exception:\n            pass\n"
        )
        text = failure(looping, case(1, expected=1, hint="Add one."))
        assert text.endswith("did not return within 0.2 seconds.\nHint: Is there a loop that never ends?")

    def test_a_late_timer_does_not_hit_what_comes_after(self):
        for _ in range(30):
            try:
                within(0.001, lambda: time.sleep(0.001))
            except TookTooLong:
                pass
        for _ in range(1000):
            pass


class TestOwnWork:
    def test_the_packages_function_under_another_name(self):
        mine = memory.kv_cache_bytes
        with pytest.raises(Refused, match="course's own"):
            check.function(mine, [case("llama-2-7b", 1, expected=524288)], without=[memory])

    def test_a_call_however_wrapped(self):
        wrapped = written(
            "f = kv\ndef mine(n):\n    try:\n        return f('llama-2-7b', n)\n    except BaseException:\n        return 0\n",
            kv=memory.kv_cache_bytes,
        )
        with pytest.raises(Refused, match="calls coursepkg.memory.serving.kv_cache_bytes"):
            check.function(wrapped, [case(1, expected=524288)], without=[memory])

    def test_a_call_in_another_thread(self):
        threaded = written(
            "def mine(n):\n    got = []\n    t = threading.Thread(target=lambda: got.append(kv('llama-2-7b', n)))\n"
            "    t.start()\n    t.join()\n    return got[0]\n",
            kv=memory.kv_cache_bytes,
            threading=threading,
        )
        with pytest.raises(Refused, match="part of the package"):
            check.function(threaded, [case(1, expected=524288)], without=[memory])

    def test_switching_the_watch_off_is_refused(self):
        off = written(
            "def mine(n):\n    sys.setprofile(None)\n    return kv('llama-2-7b', n)\n",
            kv=memory.kv_cache_bytes,
            sys=sys,
        )
        with pytest.raises(Refused, match="switched off"):
            check.function(off, [case(1, expected=524288)], without=[memory])

    def test_printing_a_size_is_no_cheating(self, capsys):
        mine = written("def mine(n):\n    print(in_gb(n))\n    return n\n", in_gb=memory.in_gb)
        check.function(mine, [case(1, expected=1)], without=[memory])

    def test_a_one_liner_that_two_people_would_write(self, capsys):
        mine = written("def mine(parts):\n    return sum(part.n_bytes for part in parts)\n")
        check.function(mine, [case([], expected=0)], without=[memory])

    def test_a_copy_with_other_names(self):
        import inspect

        source = (
            inspect.getsource(memory.kv_cache_bytes)
            .replace("tokens", "laenge")
            .replace("kv_cache_bytes", "mine")
        )
        copy = written(
            source.replace("arch", "a"), **vars(__import__("coursepkg.memory.serving", fromlist=["x"]))
        )
        with pytest.raises(Refused, match="with other names"):
            check.function(copy, [case("llama-2-7b", 1, expected=524288)], without=[memory])

    def test_an_answer_of_ones_own_passes(self, capsys):
        mine = written("def mine(layers, heads, dim, n):\n    return 2 * layers * heads * dim * n * 2\n")
        check.function(
            mine, [case(32, 32, 128, 1, expected=memory.kv_cache_bytes("llama-2-7b", 1))], without=[memory]
        )

    @pytest.mark.parametrize(
        ("where", "name"),
        [
            *[
                ("coursepkg.check", "function"),
                ("coursepkg.check.functions", "_one"),
                ("coursepkg.check.compare", "_whole"),
            ],
            *[
                ("coursepkg.memory.serving", "kv_cache_bytes"),
                ("coursepkg.memory.storage", "StorageFormat.stored_bytes"),
            ],
        ],
    )
    def test_changed_checks_are_refused(self, where, name, monkeypatch):
        ownwork.refuse_changed(sys.modules["coursepkg.check"], memory)
        monkeypatch.setattr(f"{where}.{name}", lambda *_, **__: None)
        with pytest.raises(Refused, match="restart the kernel"):
            check.hidden(double, [case(1, expected=2)], without=[memory])
