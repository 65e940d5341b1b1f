"""What is asked of a state, always in a copy of it that is thrown away, and how values get from one to another.

    {"variables": true}           {"variables": {name: {"type", "repr"}}}
    {"hashes": [name, ...]}       {"hashes": {name: 64 hex digits, or null}}
    {"alias_groups": true}        {"groups": [[name, ...], ...], "fingerprints": [hex, ...]}
    {"serve": true}               gives values away on the channel's own descriptor until the other side closes it
    {"rebuild": {"keep", "take", "taken_first"}}
                                  becomes a state of the names it keeps and those that it takes from the state behind
                                  the descriptor that follows; of a name in both, the first's. Answers
                                  {"fork_unsafe": null or why} or {"refused": why}

Values travel pickled, functions and classes of a cell by value, because their module is another one there.
"""

import copy
import hashlib
import importlib
import io
import marshal
import pickle
import sys
import types

import tithon_display
import tithon_namespace
from tithon_channel import Channel
from tithon_namespace import variables


def answer(order, namespace, channel, surroundings):
    """Answer a question; true if this process is a state now."""
    if "variables" in order:
        channel.send({"variables": {name: _described(value) for name, value in variables(namespace).items()}})
    elif "hashes" in order:
        known = variables(namespace)
        channel.send({"hashes": {name: _digest(known[name]) if name in known else None for name in order["hashes"]}})
    elif "alias_groups" in order:
        channel.send(_alias_groups(namespace))
    elif "serve" in order:
        _serve(namespace, channel)
    elif "rebuild" in order:
        return _rebuild(order["rebuild"], namespace, channel, surroundings)
    return False


def _described(value):
    try:
        shown = repr(value)
    except Exception as error:
        shown = f"<repr failed: {type(error).__name__}>"
    return {"type": type(value).__name__, "repr": tithon_display.cut(shown)}


def _digest(value):
    try:
        data = pickled(value)
    except Exception:
        data = repr(value).encode("utf-8", "replace")
    return hashlib.sha256(data).hexdigest()


# -- who shares what


def _alias_groups(namespace):
    known = variables(namespace)
    groups = _Sharing(known).groups()
    return {
        "groups": groups,
        "fingerprints": [_digest([(name, known[name]) for name in group]) for group in groups],
    }


class _Sharing(dict):
    """The memo of a deep copy of all variables, which sees one of them meet what another has."""

    def __init__(self, known):
        super().__init__()
        self._known = known
        self._leader = {name: name for name in known}
        self._first = {}
        self._owner = None

    def groups(self):
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            # Nothing of their content is needed. This process is thrown away, and so is this.
            copy._deepcopy_dispatch[numpy.ndarray] = _array
        for name, value in self._known.items():
            if isinstance(value, types.ModuleType):
                continue
            self._owner = name
            try:
                copy.deepcopy(value, self)
            except Exception:  # what cannot be copied has shown as much as it does
                pass
        found = {}
        for name in self._known:
            found.setdefault(self._find(name), []).append(name)
        return [sorted(group) for group in found.values()]

    def get(self, key, default=None):
        first = self._first.get(key)
        if first is not None and first != self._owner:
            self._leader[self._find(self._owner)] = self._find(first)
        return super().get(key, default)

    def __setitem__(self, key, value):
        self._first.setdefault(key, self._owner)
        super().__setitem__(key, value)

    def _find(self, name):
        while self._leader[name] != name:
            name = self._leader[name]
        return name


def _array(array, memo):
    """Instead of an array's copy; an array and its views share their memory."""
    base = getattr(array, "base", None)
    if isinstance(base, type(array)):
        copy.deepcopy(base, memo)
    if array.dtype.hasobject:
        copy.deepcopy(array.tolist(), memo)
    return object()


# -- values on their way to another state


class _Pickler(pickle.Pickler):
    def reducer_override(self, value):
        if isinstance(value, types.ModuleType):
            return importlib.import_module, (value.__name__,)
        if isinstance(value, types.FunctionType) and value.__module__ == "__main__":
            state = (
                value.__defaults__,
                value.__kwdefaults__,
                value.__dict__,
                [_cell(cell) for cell in value.__closure__ or ()],
            )
            made = _code(value.__code__), value.__name__, value.__qualname__, len(state[3])
            return _function, made, state, None, None, _complete_function
        if isinstance(value, type) and value.__module__ == "__main__":
            members = {
                name: member
                for name, member in vars(value).items()
                if name not in ("__dict__", "__weakref__") and not isinstance(member, types.MemberDescriptorType)
            }
            made = type(value), value.__name__, value.__bases__, members.pop("__slots__", None)
            return _class, made, members, None, None, _complete_class
        return NotImplemented


def pickled(value):
    file = io.BytesIO()
    _Pickler(file, protocol=4).dump(value)
    return file.getvalue()


def _code(code):
    try:
        # The first version that does not depend on who else refers to a constant: the same code, the same bytes.
        return marshal.dumps(code, 2)
    except ValueError:  # it has constants that are newer
        return marshal.dumps(code)


def _cell(cell):
    try:
        return (cell.cell_contents,)
    except ValueError:  # not assigned yet
        return ()


def _function(code, name, qualname, cells):
    namespace = tithon_namespace.current()
    closure = tuple(types.CellType() for _ in range(cells))
    function = types.FunctionType(marshal.loads(code), namespace, name, None, closure)
    function.__qualname__ = qualname
    return function


def _complete_function(function, state):
    function.__defaults__, function.__kwdefaults__, attributes, contents = state
    function.__dict__.update(attributes)
    for cell, content in zip(function.__closure__ or (), contents):
        if content:
            cell.cell_contents = content[0]


def _class(meta, name, bases, slots):
    members = {"__module__": "__main__"}
    if slots is not None:
        members["__slots__"] = slots
    return types.new_class(name, bases, {"metaclass": meta}, lambda made: made.update(members))


def _complete_class(made, members):
    for name, member in members.items():
        setattr(made, name, member)


def _serve(namespace, channel):
    """Give values away: {"values": [name, ...]} gets them pickled, {"names": true} gets the names."""
    known = variables(namespace)
    try:
        while True:
            wanted = channel.receive()
            if "names" in wanted:
                channel.send({"names": list(known)})
                continue
            values = {name: known[name] for name in wanted["values"] if name in known}
            try:
                data = pickled(values)
            except Exception as error:
                channel.send({"error": f"{type(error).__name__}: {error}"})
                continue
            channel.send({"length": len(data)})
            channel.send_bytes(data)
    except EOFError:
        pass


class OtherState:
    """The other end of `serve`."""

    def __init__(self, fd):
        self._channel = Channel(fd)

    def names(self):
        self._channel.send({"names": True})
        return self._channel.receive()["names"]

    def values(self, names):
        """The values of those names that there are there, as they belong together."""
        self._channel.send({"values": list(names)})
        told = self._channel.receive()
        if "error" in told:
            raise TypeError(f"this cannot be carried from one state to another: {told['error']}")
        return pickle.loads(self._channel.receive_bytes(told["length"]))

    def proxy(self):
        return _Proxy(self)


_ATTRIBUTES = vars(types.SimpleNamespace)["__dict__"]


class _Proxy(types.SimpleNamespace):
    """The variables of another state as attributes, each fetched when it is first read; all, where all are looked at."""

    __slots__ = ("__other", "__left")

    def __init__(self, other):
        super().__init__()
        object.__setattr__(self, "_Proxy__other", other)
        object.__setattr__(self, "_Proxy__left", set(other.names()))

    def __getattr__(self, name):
        if name not in self.__left:
            raise AttributeError(f"the state has no variable {name!r}")
        self.__fetch([name])
        return _ATTRIBUTES.__get__(self)[name]

    def __delattr__(self, name):
        getattr(self, name)
        super().__delattr__(name)

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        self.__left.discard(name)

    def __fetch(self, names):
        for name, value in self.__other.values(names).items():
            setattr(self, name, value)

    @property
    def __dict__(self):
        self.__fetch(sorted(self.__left))
        return _ATTRIBUTES.__get__(self)

    def __dir__(self):
        return sorted({*_ATTRIBUTES.__get__(self), *self.__left})

    def __eq__(self, other):
        return vars(self) == vars(other) if isinstance(other, types.SimpleNamespace) else NotImplemented

    def __reduce__(self):
        return types.SimpleNamespace, (), vars(self)

    def __repr__(self):
        return f"<state with {', '.join(dir(self)) or 'no variables'}>"


def _rebuild(order, namespace, channel, surroundings):
    other = OtherState(channel.descriptor())
    try:
        taken = other.values(order["take"])
    except Exception as error:
        channel.send({"refused": str(error)})
        return False
    kept = {name: value for name, value in variables(namespace).items() if name in order["keep"]}
    for name in variables(namespace):
        del namespace[name]
    source, rest = (taken, kept) if order["taken_first"] else (kept, taken)
    namespace.update(source)
    for name, value in rest.items():
        namespace.setdefault(name, value)
    channel.send({"fork_unsafe": surroundings.obstacle_in_process()})
    return True
