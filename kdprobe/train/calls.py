"""Does a call name something that is there, and do its settings make sense?"""

import inspect
from collections.abc import Callable, Iterator, Mapping

from kdprobe.errors import InputError
from kdprobe.expression import Call, ExpressionError, parse_call
from kdprobe.registry import did_you_mean


def read_call(kind: str, text: str) -> Call:
    """The call in `text`. Raises InputError, with the `kind` of thing named, where it is none."""
    try:
        return parse_call(text)
    except ExpressionError as error:
        raise InputError(f"{kind} {text!r}: {error}; write name(knob=value)") from error


def call_faults(
    text: str, known: Mapping[str, Callable[..., object]], attempt: Callable[[Call], object]
) -> Iterator[str]:
    """What is wrong with a call: found and wanted, a sentence each.

    Args:
        text: such as ``rotation(degrees=15)``.
        known: name -> the function that is called; its keyword-only arguments are the knobs.
        attempt: tries the call on something made up, and raises InputError at a senseless value.
    """
    try:
        call = parse_call(text)
    except ExpressionError as error:
        yield str(error)
        return
    at = f"found {call.name!r}"
    if call.name not in known:
        yield f"{at}; wanted {', '.join(known)}{did_you_mean(call.name, known)}"
        return
    knobs = knobs_of(known[call.name])
    unknown = [knob for knob, _ in call.knobs if knob not in knobs]
    for knob in unknown:
        wanted = ", ".join(knobs) or "none"
        yield f"{at} with knob {knob!r}; wanted {wanted}{did_you_mean(knob, knobs)}"
    if unknown:
        return
    try:
        attempt(call)
    except InputError as error:
        yield f"{at}: {error}"


def knobs_of(function: Callable[..., object]) -> list[str]:
    """The keyword-only arguments of `function`."""
    arguments = inspect.signature(function).parameters.values()
    return [one.name for one in arguments if one.kind is one.KEYWORD_ONLY]
