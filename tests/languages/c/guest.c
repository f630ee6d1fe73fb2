// What a program in C may try of a system inside of a plugin: `.ci/languages` has what has to come of it.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tag_model.h"

bool exports_kith_plugin_tagging_evaluate(
    tag_model_list_u8_t *state,
    exports_kith_plugin_tagging_table_t *rows,
    exports_kith_plugin_tagging_table_t *ret,
    exports_kith_plugin_tagging_compute_failure_t *err
) {
    printf("to standard output\n");
    fprintf(stderr, "to standard error\n");
    char byte, found[128];
    int length = snprintf(found, sizeof found, "file %s, descriptor %s, socket %s, clock %s",
        fopen("/etc/passwd", "r") || open("/etc/passwd", O_RDONLY) >= 0 ? "opened" : "none",
        read(0, &byte, 1) >= 0 ? "read" : "none",
        send(3, "x", 1, 0) >= 0 ? "sent" : "none",
        time(NULL) > 0 ? "told" : "none");

    // The same text in each row.
    size_t count = rows->rows;
    kith_plugin_columns_column_t *column = calloc(1, sizeof *column);
    int32_t *offsets = calloc(count + 1, sizeof *offsets);
    uint8_t *data = malloc(count * (size_t)length + 1);
    if (!column || !offsets || !data) abort();
    for (size_t row = 0; row < count; row++) {
        memcpy(data + row * (size_t)length, found, (size_t)length);
        offsets[row + 1] = offsets[row] + length;
    }
    tag_model_string_dup(&column->name, "hostile_c");
    column->values.tag = KITH_PLUGIN_COLUMNS_VALUES_TEXT;
    column->values.val.text.offsets = (tag_model_list_s32_t){ offsets, count + 1 };
    column->values.val.text.data = (tag_model_list_u8_t){ data, count * (size_t)length };
    ret->rows = rows->rows;
    ret->columns = (kith_plugin_columns_list_column_t){ column, 1 };
    return true;
}

bool exports_kith_plugin_tagging_fit(
    exports_kith_plugin_tagging_fitted_t *ret,
    exports_kith_plugin_tagging_failure_t *err
) {
    memset(ret, 0, sizeof *ret);
    return true;
}

bool exports_kith_plugin_tag_model_checking_validate(
    tag_model_string_t *config,
    exports_kith_plugin_tag_model_checking_list_problem_t *err
) {
    return true;
}

bool exports_kith_plugin_tag_model_checking_migrate(
    tag_model_string_t *from_version,
    tag_model_string_t *config,
    tag_model_string_t *ret,
    exports_kith_plugin_tag_model_checking_list_problem_t *err
) {
    *ret = *config;
    return true;
}
