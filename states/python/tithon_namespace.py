"""The global names of a state, and which of them a cell reads, assigns and deletes."""

import ast
import builtins
import sys
import types

# Accesses watched one by one, about a millisecond's worth. A cell with more of them is a loop: it goes on at full
# speed, and what its code mentions counts as accessed.
_WATCHED = 5000
# The namespace, and the module that was `__main__` before, which must not be collected.
_CURRENT = []


class Namespace(dict):
    """What a cell's globals are: a dictionary. Nothing is overridden, so reading and writing is C's own."""


class _Watching(Namespace):
    """The same object while accesses are watched; `__class__` is what is switched."""

    def __getitem__(self, name):
        value = dict.__getitem__(self, name)
        self.watch.read.add(name)
        self.watch.count(self)
        return value

    def __setitem__(self, name, value):
        dict.__setitem__(self, name, value)
        self.watch.assigned.add(name)
        self.watch.count(self)

    def __delitem__(self, name):
        dict.__delitem__(self, name)
        self.watch.count(self)


class Watch:
    """What one cell does to the names of a namespace, from its making to `ended`."""

    def __init__(self, namespace, tree):
        self.read = set()
        self.assigned = set()
        self._left = _WATCHED
        self._tree = tree
        # Numbers, not objects: whatever a cell lets go of must be gone at once.
        self._before = {name: id(value) for name, value in namespace.items()}
        namespace.watch = self
        namespace.__class__ = _Watching

    def count(self, namespace):
        self._left -= 1
        if self._left <= 0:
            namespace.__class__ = Namespace

    def ended(self, namespace):
        """The answer's three lists of names, sorted."""
        watched_all = namespace.__class__ is _Watching
        namespace.__class__ = Namespace
        del namespace.watch
        read, assigned = self.read, self.assigned
        for name, value in namespace.items():
            if self._before.get(name) != id(value):
                assigned.add(name)
        if not watched_all and self._tree is not None:
            mentioned, stored = _Names().of(self._tree)
            read |= _reachable(mentioned, namespace)
            assigned |= stored & namespace.keys()
        deleted = self._before.keys() - namespace.keys()
        return {
            "accessed_symbols": _shown(read & self._before.keys()),
            "modified_symbols": _shown(assigned & namespace.keys()),
            "deleted_symbols": _shown(deleted),
        }


def is_hidden(name):
    """Whether a name is Python's own rather than a variable, or one that JSON cannot have."""
    if not isinstance(name, str) or (name.startswith("__") and name.endswith("__")):
        return True
    return not name.isascii() and any("\ud800" <= letter <= "\udfff" for letter in name)


def variables(namespace):
    return {name: value for name, value in namespace.items() if not is_hidden(name)}


def _shown(names):
    return sorted(name for name in names if not is_hidden(name))


class _Names(ast.NodeVisitor):
    """The names that code mentions, and those that it assigns outside of functions and comprehensions."""

    def of(self, tree):
        self.mentioned, self.stored, self._inner = set(), set(), 0
        self.visit(tree)
        return self.mentioned, self.stored

    def visit_Name(self, node):
        if isinstance(node.ctx, ast.Load):
            self.mentioned.add(node.id)
        elif not self._inner:
            self.stored.add(node.id)

    def visit_AugAssign(self, node):
        if isinstance(node.target, ast.Name):
            self.mentioned.add(node.target.id)
        self.generic_visit(node)

    def visit_Global(self, node):
        self.stored.update(node.names)

    def visit_alias(self, node):
        if not self._inner:
            self.stored.add((node.asname or node.name).partition(".")[0])

    def _visit_scope(self, node):
        if hasattr(node, "name") and not self._inner:
            self.stored.add(node.name)
        self._inner += 1
        self.generic_visit(node)
        self._inner -= 1

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = visit_Lambda = _visit_scope
    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_scope


def _reachable(names, namespace):
    """With names, those that the functions behind them mention, and so on."""
    found, new = set(), set(names)
    while new:
        name = new.pop()
        if name in found or name not in namespace:
            continue
        found.add(name)
        value = dict.__getitem__(namespace, name)
        for function in _functions(value):
            if function.__globals__ is namespace:
                new.update(_mentioned(function.__code__))
    return found


def _functions(value):
    if isinstance(value, types.FunctionType):
        return [value]
    if isinstance(value, type):
        return [member for member in vars(value).values() if isinstance(member, types.FunctionType)]
    return []


def _mentioned(code):
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _mentioned(constant)
    return names


def fresh():
    """The namespace of a state in which nothing has run; other code finds it as the module `__main__`."""
    namespace = Namespace({"__name__": "__main__", "__doc__": None, "__builtins__": builtins})
    _CURRENT.append((namespace, sys.modules["__main__"]))
    sys.modules["__main__"] = _main(namespace)
    return namespace


def current():
    """The namespace of this state."""
    return _CURRENT[-1][0]


def _main(namespace):
    class Main(types.ModuleType):
        """`__main__`: pickle and multiprocessing look classes and functions up in it."""

        def __getattr__(self, name):
            try:
                return dict.__getitem__(namespace, name)
            except KeyError:
                raise AttributeError(f"module '__main__' has no attribute {name!r}") from None

        def __setattr__(self, name, value):
            dict.__setitem__(namespace, name, value)

        def __dir__(self):
            return list(namespace)

    main = types.ModuleType("__main__")
    main.__class__ = Main
    return main
