// Stubs in the place of WASI: printed lines go to the log, and there are no files, sockets, clock and random numbers.
// Without this file the C library imports its functions from WASI, and `kith plugin pack` refuses the module because no
// plugin has WASI.
//
// The library calls `__imported_wasi_snapshot_preview1_…`; the linker takes those that are defined here, and makes
// imports of all others. Where a program needs another one, add it in a line that answers NOT_THERE.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define WASI(name) __imported_wasi_snapshot_preview1_##name

enum { OK = 0, BAD_FILE = 8, NOT_THERE = 52, NOT_A_SEEKABLE = 70 };
enum { INFO = 1, WARN = 2 };

// `kith_plugin_log_write` of the bindings, under a name that does not depend on the world that these are of.
__attribute__((import_module("kith:plugin/log@0.2.0"), import_name("write")))
extern void kith_log(int32_t level, const char *text, size_t length);

// A line that has not ended yet; a longer one is cut in pieces.
struct line {
    char text[1024];
    size_t length;
};

static struct line lines[2];

static void put(struct line *line, int32_t level, char character) {
    if (character != '\n') line->text[line->length++] = character;
    if (character == '\n' || line->length == sizeof line->text) {
        kith_log(level, line->text, line->length);
        line->length = 0;
    }
}

struct piece {
    const char *text;
    size_t length;
};

int32_t WASI(fd_write)(int32_t file, int32_t pieces, int32_t count, int32_t written) {
    if (file != 1 && file != 2) return BAD_FILE;
    const struct piece *piece = (const struct piece *)(uintptr_t)pieces;
    size_t all = 0;
    for (int32_t at = 0; at < count; at++, piece++) {
        for (size_t byte = 0; byte < piece->length; byte++) {
            put(&lines[file - 1], file == 1 ? INFO : WARN, piece->text[byte]);
        }
        all += piece->length;
    }
    *(size_t *)(uintptr_t)written = all;
    return OK;
}

// Standard output pretends to be a terminal, because to a file the library hands over a line only when its buffer is
// full, which at the end of a call it is not.
int32_t WASI(fd_fdstat_get)(int32_t file, int32_t stat) {
    if (file != 1 && file != 2) return BAD_FILE;
    uint8_t *answer = (uint8_t *)(uintptr_t)stat;
    memset(answer, 0, 24);
    answer[0] = 2;
    return OK;
}

int32_t WASI(fd_seek)(int32_t file, int64_t offset, int32_t whence, int32_t at) { return NOT_A_SEEKABLE; }
int32_t WASI(fd_close)(int32_t file) { return BAD_FILE; }
int32_t WASI(fd_read)(int32_t file, int32_t pieces, int32_t count, int32_t read) { return BAD_FILE; }
int32_t WASI(fd_fdstat_set_flags)(int32_t file, int32_t flags) { return BAD_FILE; }
int32_t WASI(fd_prestat_get)(int32_t file, int32_t answer) { return BAD_FILE; }
int32_t WASI(fd_prestat_dir_name)(int32_t file, int32_t path, int32_t length) { return BAD_FILE; }
int32_t WASI(path_open)(
    int32_t file, int32_t look, int32_t path, int32_t length, int32_t how, int64_t rights, int64_t inherited,
    int32_t flags, int32_t opened
) { return NOT_THERE; }
int32_t WASI(sock_recv)(int32_t file, int32_t a, int32_t b, int32_t c, int32_t d, int32_t e) { return NOT_THERE; }
int32_t WASI(sock_send)(int32_t file, int32_t a, int32_t b, int32_t c, int32_t d) { return NOT_THERE; }
int32_t WASI(sock_shutdown)(int32_t file, int32_t how) { return NOT_THERE; }
int32_t WASI(clock_time_get)(int32_t clock, int64_t precision, int32_t answer) { return NOT_THERE; }
int32_t WASI(random_get)(int32_t bytes, int32_t length) { return NOT_THERE; }

_Noreturn void WASI(proc_exit)(int32_t status) { __builtin_trap(); }
