"""A broken workspace is refused with one message: where, what was expected, what came."""

import copy
import json

import pytest

import nuppl
from nuppl.errors import InputError
from nuppl.experiments.workspace_patch import patched

GOOD = {
    "channels": [
        {
            "name": "SR",
            "samples": [
                {
                    "name": "signal",
                    "data": [5.0, 6.0],
                    "modifiers": [
                        {"name": "mu", "type": "normfactor", "data": None},
                        {"name": "lumi", "type": "lumi", "data": None},
                        {"name": "rate", "type": "normsys", "data": {"lo": 0.9, "hi": 1.1}},
                    ],
                },
                {
                    "name": "background",
                    "data": [50.0, 60.0],
                    "modifiers": [
                        {
                            "name": "tilt",
                            "type": "histosys",
                            "data": {"lo_data": [49.0, 61.0], "hi_data": [51.0, 59.0]},
                        },
                        {"name": "bins", "type": "shapesys", "data": [3.0, 4.0]},
                        {"name": "mc", "type": "staterror", "data": [1.0, 2.0]},
                    ],
                },
            ],
        }
    ],
    "observations": [{"name": "SR", "data": [52.0, 63.0]}],
    "measurements": [
        {"name": "main", "config": {"poi": "mu", "parameters": [{"name": "lumi", "auxdata": [1.0], "sigmas": [0.02]}]}}
    ],
    "version": "1.0.0",
}
SIGNAL, BACKGROUND = "/channels/0/samples/0", "/channels/0/samples/1"
SETTINGS = "/measurements/0/config/parameters"
THERE = "channel 'SR', sample 'background'"


def replaced(path, value):
    return [{"op": "replace", "path": path, "value": value}]


def added(path, value):
    return [{"op": "add", "path": path, "value": value}]


def removed(path):
    return [{"op": "remove", "path": path}]


BROKEN = {
    "too few nominal counts": (
        replaced(f"{BACKGROUND}/data", [50.0]),
        f"workspace, {THERE}: expected 2 numbers, one per bin, got 1: [50.0]",
    ),
    "a nominal count that is none": (
        replaced(f"{BACKGROUND}/data", [50.0, "many"]),
        f'{THERE}: expected a finite number, got "many"',
    ),
    "shapesys of wrong length": (
        replaced(f"{BACKGROUND}/modifiers/1/data", [3.0]),
        f"{THERE}, modifier 'bins' (shapesys): expected 2 numbers, one per bin, got 1: [3.0]",
    ),
    "staterror of wrong length": (
        replaced(f"{BACKGROUND}/modifiers/2/data", [3.0, 4.0, 5.0]),
        f"{THERE}, modifier 'mc' (staterror): expected 2 numbers, one per bin, got 3: [3.0, 4.0, 5.0]",
    ),
    "histosys of wrong length": (
        replaced(f"{BACKGROUND}/modifiers/0/data/hi_data", [51.0]),
        f"{THERE}, modifier 'tilt' (histosys), hi_data: expected 2 numbers, one per bin, got 1: [51.0]",
    ),
    "histosys without lo_data": (
        removed(f"{BACKGROUND}/modifiers/0/data/lo_data"),
        f"{THERE}, modifier 'tilt' (histosys): expected an entry 'lo_data', found only hi_data",
    ),
    "normsys without data": (
        replaced(f"{SIGNAL}/modifiers/2/data", None),
        "sample 'signal', modifier 'rate' (normsys): expected an object with 'lo', got null",
    ),
    "normsys with a negative factor": (
        replaced(f"{SIGNAL}/modifiers/2/data/lo", -0.1),
        "modifier 'rate' (normsys): expected factors lo and hi above 0, got -0.1 and 1.1",
    ),
    "negative nominal under shapesys": (
        replaced(f"{BACKGROUND}/data", [50.0, -2.0]),
        "modifier 'bins' (shapesys): expected nominal counts of at least 0 in its sample, got -2",
    ),
    "negative error": (
        replaced(f"{BACKGROUND}/modifiers/2/data", [1.0, -2.0]),
        "modifier 'mc' (staterror): expected errors of at least 0, got -2",
    ),
    "unknown type": (
        replaced(f"{BACKGROUND}/modifiers/1/type", "shapesis"),
        f"{THERE}, modifier 'bins' (shapesis): unknown type of modifier 'shapesis' (did you mean 'shapesys'?)",
    ),
    "modifier without type": (
        removed(f"{BACKGROUND}/modifiers/1/type"),
        f"{THERE}, modifier 'bins': expected an entry 'type', found only name, data",
    ),
    "modifier twice": (
        added(f"{BACKGROUND}/modifiers/-", GOOD["channels"][0]["samples"][1]["modifiers"][1]),
        "modifier 'bins' (shapesys): appears twice",
    ),
    "shapesys shared": (
        added(f"{SIGNAL}/modifiers/-", {"name": "bins", "type": "shapesys", "data": [1.0, 1.0]}),
        "modifier 'bins' (shapesys): expected a name of its own",
    ),
    "one name for two kinds": (
        added(f"{BACKGROUND}/modifiers/-", {"name": "mu", "type": "normsys", "data": {"lo": 0.9, "hi": 1.1}}),
        f"{THERE}, modifier 'mu' (normsys): expected the same kind of parameter wherever the name is used",
    ),
    "sample twice": (
        replaced(f"{SIGNAL}/name", "background"),
        "channel 'SR', sample 'background': appears twice",
    ),
    "no samples": (replaced("/channels/0/samples", []), "channel 'SR': expected a list of samples, got []"),
    "no modifiers entry": (removed(f"{SIGNAL}/modifiers"), "sample 'signal': expected an entry 'modifiers'"),
    "no observation": (
        replaced("/observations/0/name", "CR"),
        "channel 'SR': expected an observation of that name, found CR",
    ),
    "observation of wrong length": (
        replaced("/observations/0/data", [52.0]),
        "channel 'SR', its observation: expected 2 numbers, one per bin, got 1: [52.0]",
    ),
    "negative observation": (
        replaced("/observations/0/data", [52.0, -1.0]),
        "channel 'SR', its observation: expected counts of at least 0, got -1",
    ),
    "no measurements": (removed("/measurements"), "workspace: expected an entry 'measurements'"),
    "interest not there": (
        replaced("/measurements/0/config/poi", "muu"),
        "measurement 'main', poi: unknown parameter 'muu' (did you mean 'mu'?)",
    ),
    "luminosity unknown": (
        replaced(SETTINGS, []),
        "measurement 'main', parameter 'lumi': expected auxdata and sigmas in the measurement",
    ),
    "unknown setting": (
        replaced(f"{SETTINGS}/0", {"name": "lumi", "auxdatum": [1.0]}),
        "measurement 'main', parameter 'lumi': unknown setting 'auxdatum' (did you mean 'auxdata'?)",
    ),
    "setting that does not apply": (
        added(f"{SETTINGS}/-", {"name": "mu", "sigmas": [1.0]}),
        "measurement 'main', parameter 'mu': expected no sigmas",
    ),
    "too many settings": (
        added(f"{SETTINGS}/-", {"name": "mu", "inits": [1.0, 2.0]}),
        "parameter 'mu', inits: expected 1 numbers, one per parameter, got 2: [1.0, 2.0]",
    ),
    "bounds that are no pairs": (
        added(f"{SETTINGS}/-", {"name": "mu", "bounds": [0.0, 5.0]}),
        "parameter 'mu', bounds: expected a list of 1 pairs [lower, upper], got [0.0, 5.0]",
    ),
    "start outside": (
        added(f"{SETTINGS}/-", {"name": "mu", "bounds": [[2.0, 5.0]]}),
        "parameter 'mu': expected inits between its bounds 2 and 5, got 1",
    ),
    "width of zero": (
        replaced(f"{SETTINGS}/0/sigmas", [0.0]),
        "parameter 'lumi', sigmas: expected numbers above 0, got 0",
    ),
    "fixed that is no flag": (
        added(f"{SETTINGS}/-", {"name": "mu", "fixed": 1}),
        "parameter 'mu', fixed: expected true or false, got 1",
    ),
}


def test_the_unbroken_one_is_a_model():
    assert list(nuppl.workspace(GOOD).bind().data_sites) == ["bins_measured", "SR"]


@pytest.mark.parametrize("case", BROKEN)
def test_broken(case):
    operations, message = BROKEN[case]
    with pytest.raises(InputError) as error:
        nuppl.workspace(patched(GOOD, operations))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "content", [[], "text", 3, None, {"channels": 3, "observations": [{"name": "SR", "data": [1]}]}]
)
def test_json_that_is_no_workspace(tmp_path, content):
    (tmp_path / "w.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"workspace '.*w\.json': expected"):
        nuppl.workspace(tmp_path / "w.json")


def test_every_part_that_is_missing_or_of_another_type_is_an_input_error():
    """Each place of the JSON in turn: taken out, or something else put there; accepted, or refused in our words."""
    for path in list(_places(GOOD)):
        for operations in (removed(path), *(replaced(path, odd) for odd in (None, [], {}, "odd", -1.5, True, [[]]))):
            broken = patched(GOOD, operations)
            try:
                nuppl.workspace(broken)
            except InputError as error:
                assert "expected" in str(error) or "appears twice" in str(error)


def _places(content, path=""):
    entries = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in entries:
        yield f"{path}/{key}"
        yield from _places(value, f"{path}/{key}")


def test_files(tmp_path):
    with pytest.raises(InputError, match="expected a JSON file, but No such file"):
        nuppl.workspace(tmp_path / "none.json")
    (tmp_path / "broken.json").write_text('{"channels": [}')
    with pytest.raises(InputError, match=r"broken\.json': expected JSON, but Expecting value: line 1 column 15"):
        nuppl.workspace(tmp_path / "broken.json")


def test_a_measurement_that_is_not_there():
    with pytest.raises(InputError, match=r"unknown measurement of workspace 'mane' \(did you mean 'main'\?\)"):
        nuppl.workspace(GOOD, measurement="mane")


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        ({"op": "remove", "path": "/channels/3"}, "operation 1 (remove '/channels/3'): expected an entry from 0 to 0"),
        ({"op": "replace", "path": "/canals/0", "value": 1}, "(replace '/canals/0'): found no 'canals' there"),
        ({"op": "test", "path": "/version", "value": "2"}, "expected another value there"),
        ({"op": "delete", "path": "/version"}, "unknown operation 'delete'"),
        ({"op": "add", "path": "/version"}, "expected an entry 'value'"),
        ({"path": "/version"}, "expected an entry 'op'"),
    ],
)
def test_patches_that_do_not_fit(operation, message):
    before = copy.deepcopy(GOOD)
    with pytest.raises(InputError) as error:
        nuppl.workspace(GOOD, patch=[operation])
    assert message in str(error.value)
    assert before == GOOD


def test_a_patch_set_needs_a_name_that_is_in_it(tmp_path):
    file = tmp_path / "set.json"
    file.write_text(json.dumps({"patches": [{"metadata": {"name": "light"}, "patch": []}]}))
    with pytest.raises(InputError, match=r"say which patch, .* with one of light"):
        nuppl.workspace(GOOD, patch=file)
    with pytest.raises(InputError, match=r"unknown patch in .* 'lite'"):
        nuppl.workspace(GOOD, patch=f"{file}:lite")


def test_staterrors_in_several_channels_need_the_same_samples():
    other = {"name": "CR", "samples": [GOOD["channels"][0]["samples"][0] | {"modifiers": [], "data": [9.0]}]}
    other["samples"][0]["modifiers"] = [{"name": "mc", "type": "staterror", "data": [1.0]}]
    operations = added("/channels/-", other) + added("/observations/-", {"name": "CR", "data": [9.0]})
    with pytest.raises(InputError, match="expected the same samples in each of its channels, got signal in 'CR'; back"):
        nuppl.workspace(GOOD, patch=operations)
