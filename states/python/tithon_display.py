"""What a cell shows: values as bundles of MIME types, figures as images, and IPython's functions for it."""

import base64
import importlib.machinery
import inspect
import io
import json
import sys

# Most characters of one MIME type's text.
MIME_MAX = 1_000_000
TRUNCATED = "\n... [truncated]"
# Most characters of all outputs of a cell together, and what each counts at least.
_OUTPUTS_MAX = 64_000_000
_OUTPUT_MIN = 100
_ROWS, _COLUMNS, _WIDTH = 200, 100, 128
_METHODS = (
    ("text/html", "_repr_html_"),
    ("text/markdown", "_repr_markdown_"),
    ("text/latex", "_repr_latex_"),
    ("application/json", "_repr_json_"),
    ("application/javascript", "_repr_javascript_"),
    ("image/svg+xml", "_repr_svg_"),
    ("image/png", "_repr_png_"),
    ("image/jpeg", "_repr_jpeg_"),
    ("application/pdf", "_repr_pdf_"),
)


class Outputs:
    """The outputs of the cell that runs, in their order."""

    def __init__(self):
        self._list = []
        self._ids = {}
        self._room = _OUTPUTS_MAX

    def begin(self):
        self._list, self._ids, self._room = [], {}, _OUTPUTS_MAX

    def taken(self):
        taken = self._list
        if self._room < 0:
            taken.append({"output_type": "stream", "name": "stderr", "text": f"{TRUNCATED.strip()}\n"})
        self.begin()
        return taken

    def _has_room(self, output):
        self._room -= _cost(output)
        return self._room >= 0

    def display(
        self, *values, raw=False, metadata=None, display_id=None, clear=False, include=None, exclude=None, **_
    ):
        """Show values. With a `display_id` (a name, or True for a new one) a handle that can update it."""
        if clear:
            self.begin()
        if display_id is True:
            display_id = f"d{len(self._ids)}"
        for value in values:
            shown = {} if raw else self._shown_by_itself(value)
            if shown is None:
                continue
            data, about = (dict(value), {}) if raw else bundle(value)
            self.publish(_chosen(data, include, exclude), {**about, **(metadata or {})}, display_id)
        return None if display_id is None else Handle(self, display_id)

    def _shown_by_itself(self, value):
        method = getattr(value, "_ipython_display_", None)
        if isinstance(value, type) or not callable(method):
            return {}
        # IPython gives it nothing, snapshot-kernel this function.
        method(**({"display": self.display} if _takes(method, "display") else {}))
        return None

    def publish(self, data, metadata=None, display_id=None, update=False):
        output = {"output_type": "display_data", "data": _bounded(data), "metadata": metadata if metadata and _is_json(metadata) else {}}
        if update:
            for place in self._ids.get(display_id, ()):
                self._room += _cost(self._list[place])
                if self._has_room(output):
                    self._list[place] = output
            return
        if not self._has_room(output):
            return
        if display_id is not None:
            self._ids.setdefault(display_id, []).append(len(self._list))
        self._list.append(output)

    def result(self, value):
        """Show the value of a cell's last expression."""
        if self._shown_by_itself(value) is not None:
            data, metadata = bundle(value)
            output = {"output_type": "execute_result", "data": _bounded(data), "metadata": metadata if _is_json(metadata) else {}}
            if self._has_room(output):
                self._list.append(output)

    def figures(self):
        """Show the open figures of matplotlib, and close them."""
        pyplot = sys.modules.get("matplotlib.pyplot")
        if pyplot is None or not hasattr(pyplot, "get_fignums"):
            return
        for number in pyplot.get_fignums():
            data = {"image/png": _png(pyplot.figure(number)), "text/plain": "<Figure>"}
            self.publish(data)
        pyplot.close("all")


class Handle:
    """What `display(..., display_id=True)` returns."""

    def __init__(self, outputs, display_id):
        self._outputs = outputs
        self.display_id = display_id

    def display(self, value, **options):
        self._outputs.display(value, display_id=self.display_id, **options)

    def update(self, value, **_):
        data, metadata = bundle(value)
        self._outputs.publish(data, metadata, self.display_id, update=True)


def bundle(value):
    """The MIME bundle of a value, and its metadata."""
    try:
        data = {"text/plain": repr(value)}
    except Exception as error:
        data = {"text/plain": f"<repr failed: {type(error).__name__}>"}
    metadata = {}
    if isinstance(value, type):
        return data, metadata
    found = _called(value, "_repr_mimebundle_")
    if isinstance(found, tuple) and len(found) == 2:
        metadata.update(found[1])
        found = found[0]
    if isinstance(found, dict):
        data.update(found)
        return data, metadata
    for mime, name in _METHODS:
        found = _called(value, name)
        if isinstance(found, tuple) and len(found) == 2:
            metadata[mime] = found[1]
            found = found[0]
        if found is not None:
            data[mime] = found
    return data, metadata


def _called(value, name):
    method = getattr(value, name, None)
    if not callable(method):
        return None
    try:
        return method()
    except Exception:  # a way to show it that does not work is no way to show it
        return None


def _takes(function, name):
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    return name in parameters or any(it.kind is it.VAR_KEYWORD for it in parameters.values())


def _bounded(data):
    kept = {}
    for mime, content in data.items():
        if isinstance(content, (bytes, bytearray)):
            content = base64.b64encode(content).decode()
        if isinstance(content, str) and len(content) > MIME_MAX:
            if mime != "text/plain":
                continue
            content = cut(content)
        if _is_json(content):
            kept[str(mime)] = content
    return kept


def cut(text):
    return text if len(text) <= MIME_MAX else text[:MIME_MAX] + TRUNCATED


def _cost(output):
    texts = (content if isinstance(content, str) else json.dumps(content) for content in output["data"].values())
    return _OUTPUT_MIN + sum(map(len, texts))


def _is_json(content):
    if isinstance(content, str):
        return True
    try:
        return len(json.dumps(content, allow_nan=False)) <= MIME_MAX
    except (TypeError, ValueError, RecursionError):
        return False


def _chosen(data, include, exclude):
    return {
        mime: content
        for mime, content in data.items()
        if (not include or mime in include) and mime not in (exclude or ())
    }


def _png(figure):
    image = io.BytesIO()
    figure.savefig(image, format="png", bbox_inches="tight")
    return base64.b64encode(image.getvalue()).decode()


def patch_imports(outputs):
    """Let IPython's and matplotlib's functions that show something show it here, whenever they are imported."""

    def ipython(module):
        module.display = outputs.display
        module.publish_display_data = lambda data, metadata=None, *, transient=None, update=False, **_: (
            outputs.publish(data, metadata, (transient or {}).get("display_id"), update)
        )
        module.update_display = lambda value, *, display_id, **_: Handle(outputs, display_id).update(value)
        module.clear_output = lambda wait=False: outputs.begin()

    def pyplot(module):
        # A function: matplotlib gives it attributes.
        module.show = lambda *_, **__: outputs.figures()

    # As much of a table as snapshot-kernel shows, until the code sets something else.
    def pandas(module):
        module.set_option("display.max_rows", _ROWS)
        module.set_option("display.max_columns", _COLUMNS)
        module.set_option("display.max_colwidth", _WIDTH)

    def polars(module):
        module.Config.set_tbl_rows(_ROWS)
        module.Config.set_tbl_cols(_COLUMNS)
        module.Config.set_fmt_str_lengths(_WIDTH)

    patches = {
        "IPython.core.display_functions": ipython,
        "matplotlib.pyplot": pyplot,
        "pandas": pandas,
        "polars": polars,
    }
    sys.meta_path.insert(0, _Patches(patches))


class _Patches:
    """Finds modules as ever, and changes some of them right after they were loaded."""

    def __init__(self, patches):
        self._patches = patches

    def find_spec(self, name, path=None, target=None):
        patch = self._patches.get(name)
        spec = patch and importlib.machinery.PathFinder.find_spec(name, path, target)
        if not spec or not spec.loader:
            return None
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            try:
                patch(module)
            except Exception:  # another version of it, which shows things its own way
                pass

        spec.loader.exec_module = exec_module
        return spec
