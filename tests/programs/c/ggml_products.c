/*
 * Products of quantised weights and activations on a device, beside what ggml's CUDA kernels are to compute: exactly, so that
 * what is left of a difference to the true product is the method's, not the device's.
 *
 * usage: ggml-products DEVICE
 *
 * The kernels round activations to 8 bits in blocks of 32: x = d8 * q8, with d8 = max |x| / 127 as a half. Weights are
 * w = d * q + m. A block's product is d * d8 * (sum of q * q8) + m * s8, where s8 is the sum of the activations *before* they
 * were rounded, as a half. (The processor's code sums the rounded ones, or has no m: its errors are weighted by w, the
 * kernels' by d * q, which is far from 0 on average.)
 *
 * Prints for each type and number of columns the mean squared error, in units of the mean square, of
 *   device-exact:  the device, from the true product
 *   method-exact:  the method above, from the true product
 *   device-method: the device, from the method
 *   cpu-exact:     ggml's processor backend, from the true product
 * and fails where device-method is above LIMIT.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ggml-backend.h>
#include <ggml.h>

#define BLOCK 32
#define WIDTH 1024
#define ROWS 256
#define MOST_COLUMNS 64
/* Above it, ggml takes its kernels for whole matrices. */
#define MOST_OF_VECTORS 8
/* Products of halves are rounded to 11 bits in some builds, sums of them in another order. */
#define LIMIT 2e-6

static void fail(const char *what)
{
    fprintf(stderr, "ggml-products: %s\n", what);
    exit(1);
}

static uint64_t state = 88172645463325252u;

/* Uniform in 0..1. */
static double uniform(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (double)(state >> 11) / 9007199254740992.0;
}

static float normal(void)
{
    return (float)(sqrt(-2.0 * log(1.0 - uniform())) * cos(6.283185307179586 * uniform()));
}

static float half(float value)
{
    return ggml_fp16_to_fp32(ggml_fp32_to_fp16(value));
}

static float half_at(const uint8_t *bytes)
{
    ggml_fp16_t bits;
    memcpy(&bits, bytes, sizeof bits);
    return ggml_fp16_to_fp32(bits);
}

/* A block of weights as d, m and whole numbers. The kernels for whole matrices subtract the 8 of Q4_0 first. */
static void parts(enum ggml_type type, int columns, const uint8_t *block, float *d, float *m, int q[BLOCK])
{
    int whole = columns > MOST_OF_VECTORS;
    const uint8_t *bits = block + 2;
    *d = half_at(block);
    *m = 0;
    if (type == GGML_TYPE_Q4_1) {
        *m = half_at(block + 2);
        bits = block + 4;
    } else if (type == GGML_TYPE_Q4_0 && !whole) {
        *m = -8 * *d;
    }
    for (int k = 0; k < BLOCK; k++) {
        if (type == GGML_TYPE_Q8_0) {
            q[k] = (int8_t)bits[k];
        } else {
            q[k] = k < BLOCK / 2 ? bits[k] & 15 : bits[k - BLOCK / 2] >> 4;
            q[k] -= type == GGML_TYPE_Q4_0 && whole ? 8 : 0;
        }
    }
}

/* The method: one row of weights with one column of activations. */
static double method(enum ggml_type type, int columns, const uint8_t *row, const float *x)
{
    double sum = 0;
    for (int b = 0; b < WIDTH / BLOCK; b++, x += BLOCK) {
        float most = 0, total = 0, d, m;
        int q[BLOCK], dot = 0;
        for (int k = 0; k < BLOCK; k++) {
            most = fmaxf(most, fabsf(x[k]));
            total += x[k];
        }
        float d8 = most / 127;
        parts(type, columns, row + b * ggml_type_size(type), &d, &m, q);
        for (int k = 0; k < BLOCK; k++) {
            dot += q[k] * (int)(most == 0 ? 0 : roundf(x[k] / d8));
        }
        /* The kernels for Q8_0 keep the scale in single precision where they multiply whole matrices: no matter here. */
        sum += (double)d * half(d8) * dot + (double)m * half(total);
    }
    return sum;
}

static void product(ggml_backend_t backend, enum ggml_type type, const void *weights, const float *x, int columns, float *out)
{
    struct ggml_init_params sizes = {1 << 20, NULL, true};
    struct ggml_context *context = ggml_init(sizes);
    struct ggml_tensor *a = ggml_new_tensor_2d(context, type, WIDTH, ROWS);
    struct ggml_tensor *b = ggml_new_tensor_2d(context, GGML_TYPE_F32, WIDTH, columns);
    struct ggml_tensor *c = ggml_mul_mat(context, a, b);
    struct ggml_cgraph *graph = ggml_new_graph(context);
    ggml_build_forward_expand(graph, c);
    ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(context, backend);
    if (buffer == NULL) {
        fail("no memory on the device");
    }
    ggml_backend_tensor_set(a, weights, 0, ggml_nbytes(a));
    ggml_backend_tensor_set(b, x, 0, ggml_nbytes(b));
    if (ggml_backend_graph_compute(backend, graph) != GGML_STATUS_SUCCESS) {
        fail("the device computes no product");
    }
    ggml_backend_tensor_get(c, out, 0, ggml_nbytes(c));
    ggml_backend_buffer_free(buffer);
    ggml_free(context);
}

static double error(const double *want, const double *got, int count)
{
    double squares = 0, size = 0;
    for (int k = 0; k < count; k++) {
        squares += (got[k] - want[k]) * (got[k] - want[k]);
        size += want[k] * want[k];
    }
    return squares / size;
}

static double *doubles(const float *values, int count)
{
    double *wide = malloc(count * sizeof *wide);
    for (int k = 0; k < count; k++) {
        wide[k] = values[k];
    }
    return wide;
}

static ggml_backend_t open_device(const char *name)
{
    ggml_backend_dev_t device = ggml_backend_dev_by_name(name);
    ggml_backend_t backend = device == NULL ? NULL : ggml_backend_dev_init(device, NULL);
    if (backend == NULL) {
        fprintf(stderr, "ggml-products: ggml has no device %s\n", name);
        exit(1);
    }
    return backend;
}

int main(int count, char **words)
{
    static const enum ggml_type types[] = {GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q8_0};
    static const int columns[] = {1, 4, MOST_COLUMNS};
    static float weights[ROWS * WIDTH], plain[ROWS * WIDTH], x[WIDTH * MOST_COLUMNS];
    static float on_device[ROWS * MOST_COLUMNS], on_cpu[ROWS * MOST_COLUMNS];
    static double exact[ROWS * MOST_COLUMNS], as_method[ROWS * MOST_COLUMNS];
    int failed = 0;
    if (count != 2) {
        fprintf(stderr, "usage: ggml-products DEVICE\n");
        return 2;
    }
    ggml_backend_load_all();
    ggml_backend_t device = open_device(words[1]), cpu = open_device("CPU");
    for (int k = 0; k < ROWS * WIDTH; k++) {
        weights[k] = normal() / 32;
    }
    for (int k = 0; k < WIDTH * MOST_COLUMNS; k++) {
        x[k] = normal();
    }
    for (unsigned t = 0; t < sizeof types / sizeof *types; t++) {
        enum ggml_type type = types[t];
        size_t row = ggml_row_size(type, WIDTH);
        uint8_t *small = malloc(row * ROWS);
        ggml_quantize_chunk(type, weights, small, 0, ROWS, WIDTH, NULL);
        ggml_get_type_traits(type)->to_float(small, plain, (int64_t)ROWS * WIDTH);
        for (unsigned n = 0; n < sizeof columns / sizeof *columns; n++) {
            int all = ROWS * columns[n];
            for (int c = 0; c < columns[n]; c++) {
                for (int r = 0; r < ROWS; r++) {
                    double sum = 0;
                    for (int k = 0; k < WIDTH; k++) {
                        sum += (double)plain[r * WIDTH + k] * x[c * WIDTH + k];
                    }
                    exact[c * ROWS + r] = sum;
                    as_method[c * ROWS + r] = method(type, columns[n], small + r * row, x + c * WIDTH);
                }
            }
            product(device, type, small, x, columns[n], on_device);
            product(cpu, type, small, x, columns[n], on_cpu);
            double *ours = doubles(on_device, all), *theirs = doubles(on_cpu, all);
            double apart = error(as_method, ours, all);
            printf("%s columns=%d device-exact=%.2e method-exact=%.2e device-method=%.2e cpu-exact=%.2e\n", ggml_type_name(type),
                   columns[n], error(exact, ours, all), error(exact, as_method, all), apart, error(exact, theirs, all));
            if (!(apart <= LIMIT)) {
                failed = 1;
            }
            free(ours);
            free(theirs);
        }
        free(small);
    }
    return failed;
}
