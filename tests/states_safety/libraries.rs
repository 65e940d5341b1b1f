//! Libraries whose own threads and buffers must come through.

use crate::{comes_back, run, with_libraries};

#[test]
fn arrays_tables_and_figures_come_back() {
    let Some(home) = with_libraries("arrays_tables_and_figures_come_back") else {
        return;
    };
    let made = r"
import hashlib, io
import numpy as np, pandas as pd, pyarrow as pa, pyarrow.compute as pc, pyarrow.parquet as pq
import matplotlib.pyplot as plt
%config InlineBackend.close_figures = False

rng = np.random.default_rng(3); np.random.seed(4)
a = np.arange(1_000_000.0); view = a[10:20]
square = np.random.default_rng(0).random((400, 400)); square @ square
frame = pd.DataFrame({'k': np.arange(50_000) % 7, 'v': np.arange(50_000.0)})
groups = frame.groupby('k')['v']; groups.sum()
table = pa.table({'k': frame['k'], 'v': frame['v']})
pc.sum(table['v']); table.group_by('k').aggregate([('v', 'sum')])
mapped = np.memmap('mapped', dtype='float64', mode='w+', shape=(8,)); mapped[:] = 1; mapped.flush()
figure, axes = plt.subplots(); axes.plot([1, 2, 3]);
";
    let changed = r"
print(rng.random(), np.random.rand(), np.random.standard_normal(2))
a += 1; print(a.sum(), view[0], np.shares_memory(a, view), mapped.sum())
product = square @ square; print(round(float(np.linalg.norm(product)), 6), np.linalg.matrix_rank(square))
frame['v'] *= 2; frame.loc[0, 'k'] = 9; print(frame.groupby('k')['v'].sum().to_dict())
sums = table.group_by('k').aggregate([('v', 'sum')]).sort_by('k')
print(sums['v_sum'].to_pylist(), pc.mean(table['v']).as_py())
table = table.append_column('w', pc.multiply(table['v'], 2)); print(table.num_columns)
held = io.BytesIO(); pq.write_table(table, held); held.seek(0); print(pq.read_table(held).num_rows)
plt.plot([3, 2, 1]); print(plt.get_fignums(), len(plt.gca().lines), plt.gcf() is figure)
drawn = io.BytesIO(); figure.savefig(drawn, metadata={'Software': None})
print(hashlib.sha256(drawn.getvalue()).hexdigest())
plt.close('all')
";
    let said = comes_back(&home, made, changed);
    assert!(said.contains("[1] 2 True\n"), "{said}");
    assert!(said.contains(" 11.0 True 8.0\n"), "{said}");
    // And again from the state that this came to.
    let on = "print(len(plt.get_fignums()), table.num_columns, pc.sum(table['w']).as_py())";
    assert_eq!(comes_back(&home, "figure.number", on), run(&home, on));
}

/// libgomp keeps its team in the storage of the thread that forked: a copy made from the main thread hangs
/// at its next parallel region.
#[test]
fn parallel_regions_run_in_a_restored_kernel() {
    let Some(home) = with_libraries("parallel_regions_run_in_a_restored_kernel") else {
        return;
    };
    let made = r"
import numpy as np, threading
from sklearn.cluster import KMeans
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from threadpoolctl import threadpool_info

x = np.random.default_rng(0).random((3000, 6)); y = (x.sum(axis=1) > 3).astype(int)
def fit():
    boosted = HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(x, y)
    clusters = KMeans(3, n_init=1, random_state=0).fit(x)
    forest = RandomForestClassifier(5, n_jobs=2, random_state=0).fit(x, y)
    return boosted, round(boosted.score(x, y), 6), round(clusters.inertia_, 3), round(forest.score(x, y), 6)
model, *scores = fit()
teams = sorted(pool['num_threads'] for pool in threadpool_info() if pool['user_api'] == 'openmp')
";
    let changed = r"
print(teams, scores, fit()[1:], round(float(model.predict_proba(x).sum()), 6))
print(threading.current_thread() is threading.main_thread(), threading.active_count() > 0)
";
    let said = comes_back(&home, made, changed);
    assert!(
        said.starts_with("[2") && said.contains("\nTrue True\n"),
        "{said}"
    );
    // A copy of a copy, whose main thread is not the one Python began with.
    comes_back(&home, "again = fit()[1:]", "print(again, fit()[1:])");
}
