//! What Python itself brings.

use crate::{comes_back, harness::Home};

#[test]
fn positions_streams_and_handles_come_back() {
    let home = Home::with(&[("TITHON_CHECKPOINTS", "20")]);
    let made = r"
import asyncio, itertools, random, secrets, sqlite3, sys, threading, time, types

random.seed(5)
own = random.Random(7)
def counter():
    n = 0
    def step():
        nonlocal n
        n += 1
        return n
    return step
step = counter(); step()
numbers = (n * n for n in range(100)); next(numbers)
count = itertools.count(3); next(count)
def talker():
    heard = []
    while True:
        heard.append((yield list(heard)))
talk = talker(); next(talk); talk.send('a')

module = types.ModuleType('made'); sys.modules['made'] = module; module.value = [1]
free, held, again = threading.Lock(), threading.Lock(), threading.RLock()
held.acquire(); again.acquire()
event, queue = threading.Event(), asyncio.Queue(); queue.put_nowait('waiting')
over = threading.Thread(target=lambda: None); over.start(); over.join()

file = open('file', 'w+'); file.write('abcdef'); file.seek(2)
raw = open('file', 'rb', buffering=0); raw.seek(3)
disk = sqlite3.connect('disk.db'); disk.execute('create table t (x)')
disk.execute('insert into t values (1)'); disk.commit()
memory = sqlite3.connect(':memory:'); memory.execute('create table t (x)')
rows = memory.executemany('insert into t values (?)', [(1,), (2,), (3,)])
cursor = memory.execute('select x from t'); cursor.fetchone()

ticks = 0
async def tick():
    global ticks
    while True:
        ticks += 1
        await asyncio.sleep(0.005)
ticking = asyncio.create_task(tick())
async def take():
    return await future
future = asyncio.get_running_loop().create_future()
waiting = asyncio.create_task(take())
rang = []
asyncio.get_running_loop().call_later(3600, rang.append, 'much later')
";
    let changed = r"
import made
print(random.random(), random.getrandbits(32), own.random(), step(), next(numbers), next(count))
print(talk.send('b'), made.value, module is made); made.value.append(2)
print(free.acquire(blocking=False), held.acquire(blocking=False), again.acquire(blocking=False))
print(queue.get_nowait(), queue.empty(), event.is_set(), over.is_alive()); event.set()
print(file.read(2), file.tell(), raw.read(1), raw.tell())
print(disk.execute('select count(*) from t').fetchone(), cursor.fetchone())
memory.execute('insert into t values (4)'); print(memory.execute('select sum(x) from t').fetchone())
before = ticks
asyncio.get_running_loop().call_later(0.01, rang.append, 'soon')
future.set_result('given')
for _ in range(2000):
    await asyncio.sleep(0.005)
    if ticks > before + 2 and rang: break
print(ticks > before, ticking.done(), await waiting, rang)
print(len(secrets.token_bytes(8)), threading.current_thread() is threading.main_thread())
async def in_thread():
    return await asyncio.to_thread(sum, [1, 2])
import concurrent.futures
with concurrent.futures.ThreadPoolExecutor(2) as pool:
    print(list(pool.map(abs, [-1, -2])))
";
    let said = comes_back(&home, made, changed);
    assert!(
        said.contains("\n[1] True") || said.contains("['a'"),
        "{said}"
    );
    assert!(said.contains("True False True\n"), "{said}");
    assert!(said.contains("cd 4 b'd' 4\n"), "{said}");
    assert!(said.contains("(1,) (2,)\n(10,)\n"), "{said}");
    assert!(said.contains("True False given ['soon']\n"), "{said}");
    assert!(said.ends_with("[1, 2]\n"), "{said}");
}

#[test]
fn a_state_is_interrupted_like_any_kernel() {
    let home = Home::with(&[("TITHON_CHECKPOINTS", "20")]);
    let state = crate::checkpoint_after(&home, "import time, signal; x = 1");
    home.tithon(&["restore", "--to", &state]).ok();
    for _ in 0..2 {
        // Its main thread may be another than the one that Python began with.
        let sleeping = home
            .tithon(&[
                "run",
                "--no-wait",
                "-c",
                "print('be' + 'gun', flush=True); time.sleep(1000)",
            ])
            .ok();
        crate::until("the cell", || {
            let log = home.tithon(&["log", "--exec", sleeping.trim()]).ok();
            log.contains("begun").then_some(())
        });
        home.tithon(&["interrupt"]).ok();
        assert_eq!(home.tithon(&["wait", sleeping.trim()]).code, 130);
    }
    assert_eq!(crate::run(&home, "x"), "1\n");
}
