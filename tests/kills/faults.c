/* Preloaded before libc: the n-th system call of a kind on a path that begins with a prefix fails with an error, or
   kills the process. Every process that is forked counts for itself. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, RENAME = 4, OPEN = 8, UNLINK = 16, CUT = 32 };

static char prefix[4096];
long counts[6]; /* calls of each kind, in the order of the enum */
static long at, seen;
static int kinds, error, again;

/* error < 0: kill; again: every later call fails too, as on a full disk. */
void arm(const char *on, int of, long nth, int with, int forever) {
  strncpy(prefix, on, sizeof prefix - 1);
  kinds = of; at = nth; error = with; again = forever; seen = 0;
  memset(counts, 0, sizeof counts);
}

static int falls(int kind, const char *path) {
  if (!prefix[0] || !(kinds & kind) || !path || strncmp(path, prefix, strlen(prefix))) return 0;
  long number = __sync_fetch_and_add(&seen, 1);
  __sync_fetch_and_add(&counts[__builtin_ctz(kind)], 1);
  if (number != at && !(again && number > at)) return 0;
  if (error < 0) { kill(getpid(), SIGKILL); pause(); }
  errno = error;
  return 1;
}

static int falls_on(int kind, int file) {
  char link[64], path[4096];
  if (!prefix[0] || !(kinds & kind)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  return falls(kind, path);
}

#define NEXT(name) __typeof__(&name) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int f, const void *b, size_t n) { NEXT(write); return falls_on(WRITE, f) ? -1 : next(f, b, n); }
ssize_t pwrite(int f, const void *b, size_t n, off_t o) { NEXT(pwrite); return falls_on(WRITE, f) ? -1 : next(f, b, n, o); }
ssize_t pwrite64(int f, const void *b, size_t n, off64_t o) { NEXT(pwrite64); return falls_on(WRITE, f) ? -1 : next(f, b, n, o); }
ssize_t writev(int f, const struct iovec *v, int n) { NEXT(writev); return falls_on(WRITE, f) ? -1 : next(f, v, n); }
int fsync(int f) { NEXT(fsync); return falls_on(SYNC, f) ? -1 : next(f); }
int fdatasync(int f) { NEXT(fdatasync); return falls_on(SYNC, f) ? -1 : next(f); }
int ftruncate(int f, off_t n) { NEXT(ftruncate); return falls_on(CUT, f) ? -1 : next(f, n); }
int ftruncate64(int f, off64_t n) { NEXT(ftruncate64); return falls_on(CUT, f) ? -1 : next(f, n); }
int rename(const char *a, const char *b) { NEXT(rename); return falls(RENAME, a) ? -1 : next(a, b); }
int unlink(const char *a) { NEXT(unlink); return falls(UNLINK, a) ? -1 : next(a); }

#define OPENS(name, before, names, path)                                  \
  int name before {                                                       \
    mode_t mode = 0;                                                      \
    if (flags & (O_CREAT | O_TMPFILE)) {                                  \
      va_list more;                                                       \
      va_start(more, flags);                                              \
      mode = va_arg(more, mode_t);                                        \
      va_end(more);                                                       \
    }                                                                     \
    NEXT(name);                                                           \
    return falls(OPEN, path) ? -1 : next names;                           \
  }

OPENS(open, (const char *path, int flags, ...), (path, flags, mode), path)
OPENS(open64, (const char *path, int flags, ...), (path, flags, mode), path)
OPENS(openat, (int folder, const char *path, int flags, ...), (folder, path, flags, mode), path)
OPENS(openat64, (int folder, const char *path, int flags, ...), (folder, path, flags, mode), path)
