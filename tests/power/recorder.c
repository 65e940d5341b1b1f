/* Writes down, in order, what processes do to the files below a directory, so that a test can say what a disk
 * would hold had the power failed at any moment. Preloaded into supervisor, worker and kernel.
 *
 *     TITHON_POWER_ROOT   the directory
 *     TITHON_POWER_LOG    where to write
 *     TITHON_POWER_BOOT   a file to show as /proc/sys/kernel/random/boot_id
 *
 * Each operation and its line in the log are one step for all processes: a lock is held over both. Nothing is
 * synced in truth, for the machine does not go down. What a process does by mmap (SQLite's -shm) is not seen.
 *
 * A record is: u32 length of what follows, u8 operation, u32 pid, u64 monotonic ns, u64 inode, u64 number,
 * u32 length of the first text, u32 length of the second, both texts. Little-endian, as the machine is. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { CREATE = 1, MKDIR, WRITE, SIZE, SYNC, RENAME, UNLINK, RMDIR, SEND };

static char root[4096], log_path[4096], boot_path[4096];
static size_t root_len;
static int log_fd = -1;
static pthread_mutex_t in_process = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static void open_log(void) {
    /* A description of its own for each process: flock belongs to the description. */
    log_fd = log_path[0] ? (int)syscall(SYS_openat, AT_FDCWD, log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600) : -1;
}

static void after_fork(void) {
    pthread_mutex_init(&in_process, NULL);
    if (log_fd >= 0) close(log_fd);
    open_log();
}

__attribute__((constructor)) static void begin(void) {
    const char *value;
    if ((value = getenv("TITHON_POWER_ROOT"))) snprintf(root, sizeof root, "%s", value);
    if ((value = getenv("TITHON_POWER_LOG"))) snprintf(log_path, sizeof log_path, "%s", value);
    if ((value = getenv("TITHON_POWER_BOOT"))) snprintf(boot_path, sizeof boot_path, "%s", value);
    root_len = strlen(root);
    open_log();
    pthread_atfork(NULL, NULL, after_fork);
}

static void lock(void) {
    pthread_mutex_lock(&in_process);
    while (syscall(SYS_flock, log_fd, LOCK_EX) < 0 && errno == EINTR) {}
}

static void unlock(void) {
    int kept = errno;
    syscall(SYS_flock, log_fd, LOCK_UN);
    pthread_mutex_unlock(&in_process);
    errno = kept;
}

static void note(uint8_t operation, uint64_t inode, uint64_t number, const void *a, size_t a_len, const void *b,
                 size_t b_len) {
    int kept = errno;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    char head[41];
    uint32_t length = (uint32_t)(sizeof head - 4 + a_len + b_len), pid = (uint32_t)getpid();
    uint64_t ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    uint32_t lengths[2] = {(uint32_t)a_len, (uint32_t)b_len};
    memcpy(head, &length, 4);
    head[4] = (char)operation;
    memcpy(head + 5, &pid, 4);
    memcpy(head + 9, &ns, 8);
    memcpy(head + 17, &inode, 8);
    memcpy(head + 25, &number, 8);
    memcpy(head + 33, lengths, 8);
    struct iovec parts[3] = {{head, sizeof head}, {(void *)a, a_len}, {(void *)b, b_len}};
    if (syscall(SYS_writev, log_fd, parts, 3) != (long)(sizeof head + a_len + b_len)) abort();
    errno = kept;
}

static int is_below(const char *path) {
    return log_fd >= 0 && root_len && path && !strncmp(path, root, root_len) &&
           (path[root_len] == '/' || !path[root_len]);
}

/* The inode of a regular file (or, if asked for, of a directory) below the root; 0 for anything else. */
static uint64_t watched(int fd, int directories) {
    struct stat found;
    if (log_fd < 0 || fd < 0 || fd == log_fd || fstat(fd, &found)) return 0;
    if (!S_ISREG(found.st_mode) && !(directories && S_ISDIR(found.st_mode))) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return is_below(path) ? found.st_ino : 0;
}

static int open_at(int dir, const char *path, int flags, mode_t mode) {
    if (boot_path[0] && path && !strcmp(path, "/proc/sys/kernel/random/boot_id")) path = boot_path;
    if (!is_below(path) || !(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE)
        return (int)syscall(SYS_openat, dir, path, flags, mode);
    lock();
    struct stat before, after;
    int was = !lstat(path, &before);
    int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= 0 && !fstat(fd, &after) && S_ISREG(after.st_mode)) {
        if (!was) note(CREATE, after.st_ino, 0, path, strlen(path), NULL, 0);
        else if (flags & O_TRUNC) note(SIZE, after.st_ino, 0, NULL, 0, NULL, 0);
    }
    unlock();
    return fd;
}

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = (mode_t)va_arg(rest, int); va_end(rest); \
        return open_at(AT_FDCWD, path, flags, mode); \
    }
#define OPENAT(name) \
    int name(int dir, const char *path, int flags, ...) { \
        va_list rest; va_start(rest, flags); mode_t mode = (mode_t)va_arg(rest, int); va_end(rest); \
        return open_at(dir, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* What a worker tells its clients, as far as the test wants to know it. */
static int is_told(int fd, const void *data, size_t length) {
    struct stat found;
    return log_fd >= 0 && length > 8 && !fstat(fd, &found) && S_ISSOCK(found.st_mode) &&
           memmem(data, length, "\"op\": ", 6);
}

static void told(const void *data, size_t length) {
    lock();
    note(SEND, 0, 0, data, length, NULL, 0);
    unlock();
}

/* A write at an offset, or where the descriptor stands or appends. */
static ssize_t put(int fd, const struct iovec *parts, int count, int64_t at) {
    long written;
    uint64_t inode = watched(fd, 0);
    if (!inode) {
        if (at >= 0) return pwritev(fd, parts, count, at);
        for (int part = 0; part < count; part++)
            /* Before it is sent: whoever has heard it has heard what the log already tells. */
            if (is_told(fd, parts[part].iov_base, parts[part].iov_len)) told(parts[part].iov_base, parts[part].iov_len);
        return syscall(SYS_writev, fd, parts, count);
    }
    lock();
    struct stat found;
    fstat(fd, &found);
    int64_t from = at;
    if (at < 0) from = fcntl(fd, F_GETFL) & O_APPEND ? found.st_size : lseek(fd, 0, SEEK_CUR);
    written = at < 0 ? syscall(SYS_writev, fd, parts, count) : syscall(SYS_pwritev, fd, parts, count, at, 0);
    long left = written;
    for (int part = 0; part < count && left > 0; part++) {
        size_t length = (size_t)left < parts[part].iov_len ? (size_t)left : parts[part].iov_len;
        note(WRITE, inode, (uint64_t)from, parts[part].iov_base, length, NULL, 0);
        from += (int64_t)length;
        left -= (long)length;
    }
    unlock();
    return written;
}

ssize_t write(int fd, const void *data, size_t length) {
    struct iovec part = {(void *)data, length};
    return put(fd, &part, 1, -1);
}
ssize_t writev(int fd, const struct iovec *parts, int count) { return put(fd, parts, count, -1); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) {
    struct iovec part = {(void *)data, length};
    return watched(fd, 0) ? put(fd, &part, 1, at) : syscall(SYS_pwrite64, fd, data, length, at);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) { return pwrite(fd, data, length, at); }
ssize_t send(int fd, const void *data, size_t length, int flags) {
    REAL(send);
    if (is_told(fd, data, length)) told(data, length);
    return real(fd, data, length, flags);
}
ssize_t sendto(int fd, const void *data, size_t length, int flags, const struct sockaddr *to, socklen_t to_length) {
    REAL(sendto);
    if (is_told(fd, data, length)) told(data, length);
    return real(fd, data, length, flags, to, to_length);
}

int ftruncate(int fd, off_t length) {
    uint64_t inode = watched(fd, 0);
    if (!inode) return (int)syscall(SYS_ftruncate, fd, length);
    lock();
    int done = (int)syscall(SYS_ftruncate, fd, length);
    if (!done) note(SIZE, inode, (uint64_t)length, NULL, 0, NULL, 0);
    unlock();
    return done;
}
int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

static int synced(int fd) {
    uint64_t inode = watched(fd, 1);
    if (!inode) return 0;
    lock();
    note(SYNC, inode, 0, NULL, 0, NULL, 0);
    unlock();
    return 0;
}
int fsync(int fd) { return synced(fd); }
int fdatasync(int fd) { return synced(fd); }

/* Operations on names: done and noted in one step. */
#define NAMED(operation, call, path, other) \
    int done; \
    if (!is_below(path)) return (int)(call); \
    lock(); \
    done = (int)(call); \
    if (!done) { \
        struct stat found; \
        const char *second = other; \
        uint64_t inode = operation == MKDIR && !lstat(path, &found) ? found.st_ino : 0; \
        note(operation, inode, 0, path, strlen(path), second, second ? strlen(second) : 0); \
    } \
    unlock(); \
    return done

int mkdir(const char *path, mode_t mode) { NAMED(MKDIR, syscall(SYS_mkdirat, AT_FDCWD, path, mode), path, NULL); }
int rename(const char *path, const char *to) {
    NAMED(RENAME, syscall(SYS_renameat, AT_FDCWD, path, AT_FDCWD, to), path, to);
}
int unlink(const char *path) { NAMED(UNLINK, syscall(SYS_unlinkat, AT_FDCWD, path, 0), path, NULL); }
int rmdir(const char *path) { NAMED(RMDIR, syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR), path, NULL); }
