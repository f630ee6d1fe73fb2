// The tag model acme/rhythm: how often somebody orders.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tag_model.h"

#define DAY_MS 86400000LL

static int by_time(const void *one, const void *other) {
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

static int by_size(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

// Memory that is there: without it the call ends as a fault.
static void *take(size_t bytes) {
    void *memory = calloc(bytes ? bytes : 1, 1);
    if (!memory) abort();
    return memory;
}

// The median of the days between the days of these orders, which it sorts; less than 0 where there are too few.
static double median_gap(int64_t *times, size_t count, size_t least) {
    qsort(times, count, sizeof *times, by_time);
    double *gaps = take(count * sizeof *gaps);
    size_t days = 0;
    int64_t last = 0;
    for (size_t at = 0; at < count; at++) {
        // Rounded down, before 1970 as well.
        int64_t day = times[at] / DAY_MS - (times[at] % DAY_MS < 0);
        if (days == 0 || day != last) {
            if (days > 0) gaps[days - 1] = (double)(day - last);
            days++;
        }
        last = day;
    }
    double median = -1;
    if (days >= least) {
        size_t between = days - 1;
        qsort(gaps, between, sizeof *gaps, by_size);
        median = (gaps[(between - 1) / 2] + gaps[between / 2]) / 2;
    }
    free(gaps);
    return median;
}

static const char *named(double gap) {
    if (gap <= 10) return "weekly";
    if (gap <= 45) return "monthly";
    return gap <= 120 ? "quarterly" : "rarely";
}

// The configuration is flat and has been held against the manifest's schema, which filled in what was absent.
static size_t least_orders(void) {
    tag_model_string_t config;
    kith_plugin_config_get(&config);
    char *text = take(config.len + 1);
    memcpy(text, config.ptr, config.len);
    tag_model_string_free(&config);
    static const char key[] = "\"least_orders\":";
    const char *found = strstr(text, key);
    size_t least = found ? strtoul(found + sizeof key - 1, NULL, 10) : 3;
    free(text);
    return least;
}

static kith_plugin_columns_column_t *column(kith_plugin_columns_table_t *table, const char *name, uint8_t type) {
    for (size_t at = 0; at < table->columns.len; at++) {
        kith_plugin_columns_column_t *found = &table->columns.ptr[at];
        bool is_it = found->name.len == strlen(name) && memcmp(found->name.ptr, name, found->name.len) == 0;
        if (is_it && found->values.tag == type) return found;
    }
    return NULL;
}

// A column of which every row is absent until its bit is set.
static void begin(kith_plugin_columns_column_t *column, const char *name, uint8_t type, size_t rows) {
    tag_model_string_dup(&column->name, name);
    column->validity.is_some = true;
    column->validity.val.len = (rows + 7) / 8;
    column->validity.val.ptr = take(column->validity.val.len);
    column->values.tag = type;
}

static void set_present(kith_plugin_columns_column_t *column, size_t row) {
    column->validity.val.ptr[row / 8] |= (uint8_t)(1u << (row % 8));
}

bool exports_kith_plugin_tagging_evaluate(
    tag_model_list_u8_t *state,
    exports_kith_plugin_tagging_table_t *rows,
    exports_kith_plugin_tagging_table_t *ret,
    exports_kith_plugin_tagging_compute_failure_t *err
) {
    tag_model_list_u8_free(state);
    kith_plugin_columns_column_t *orders = column(rows, "orders", KITH_PLUGIN_COLUMNS_VALUES_TIMESTAMP_LIST);
    if (!orders) {
        err->tag = KITH_PLUGIN_FITTING_COMPUTE_FAILURE_PERMANENT;
        tag_model_string_dup(&err->val.permanent, "there is no column orders of timestamp-list");
        exports_kith_plugin_tagging_table_free(rows);
        return false;
    }
    size_t count = rows->rows, least = least_orders();
    kith_plugin_columns_int64_lists_t *lists = &orders->values.val.timestamp_list;

    ret->rows = rows->rows;
    ret->columns.len = 2;
    ret->columns.ptr = take(2 * sizeof *ret->columns.ptr);
    kith_plugin_columns_column_t *rhythm = &ret->columns.ptr[0], *gap_days = &ret->columns.ptr[1];
    begin(rhythm, "order_rhythm", KITH_PLUGIN_COLUMNS_VALUES_TEXT, count);
    begin(gap_days, "order_gap_days", KITH_PLUGIN_COLUMNS_VALUES_FLOAT64, count);
    kith_plugin_columns_texts_t *texts = &rhythm->values.val.text;
    texts->offsets.len = count + 1;
    texts->offsets.ptr = take((count + 1) * sizeof *texts->offsets.ptr);
    // "quarterly" is the longest.
    texts->data.ptr = take(count * strlen("quarterly"));
    tag_model_list_f64_t *gaps = &gap_days->values.val.float64;
    gaps->len = count;
    gaps->ptr = take(count * sizeof *gaps->ptr);

    size_t tagged = 0;
    for (size_t row = 0; row < count; row++) {
        int32_t from = lists->offsets.ptr[row], to = lists->offsets.ptr[row + 1];
        double gap = median_gap(lists->items.ptr + from, (size_t)(to - from), least);
        if (gap >= 0) {
            const char *name = named(gap);
            memcpy(texts->data.ptr + texts->data.len, name, strlen(name));
            texts->data.len += strlen(name);
            gaps->ptr[row] = gap;
            set_present(rhythm, row);
            set_present(gap_days, row);
            tagged++;
        }
        texts->offsets.ptr[row + 1] = (int32_t)texts->data.len;
    }
    exports_kith_plugin_tagging_table_free(rows);
    // `wasi.c` makes a line of the log of it.
    printf("%zu of %zu have a rhythm\n", tagged, count);
    return true;
}

// There is nothing to learn.
bool exports_kith_plugin_tagging_fit(
    exports_kith_plugin_tagging_fitted_t *ret,
    exports_kith_plugin_tagging_failure_t *err
) {
    (void)err;
    memset(ret, 0, sizeof *ret);
    return true;
}

// The manifest's schema says all that there is to say of a configuration.
bool exports_kith_plugin_tag_model_checking_validate(
    tag_model_string_t *config,
    exports_kith_plugin_tag_model_checking_list_problem_t *err
) {
    (void)err;
    tag_model_string_free(config);
    return true;
}

bool exports_kith_plugin_tag_model_checking_migrate(
    tag_model_string_t *from_version,
    tag_model_string_t *config,
    tag_model_string_t *ret,
    exports_kith_plugin_tag_model_checking_list_problem_t *err
) {
    (void)err;
    tag_model_string_free(from_version);
    *ret = *config;
    return true;
}
