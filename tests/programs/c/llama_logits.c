/*
 * What a model says of a text, and how it goes on: to compare a GPU with the processor.
 *
 * usage: llama-logits MODEL LAYERS-ON-GPU FLASH(0|1) BATCH TOKENS LOGITS-FILE <TEXT
 *
 * Evaluates the text in batches of BATCH tokens, writes the logits of every position to LOGITS-FILE (float32, position by
 * position), and prints
 *   devices: NAME...          the devices that llama.cpp found
 *   tokens: N                 of the text
 *   perplexity: X             of the text
 *   greedy: ID ID ...         the most likely TOKENS tokens after it, one by one
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ggml-backend.h>
#include <llama.h>

#define MAX_TEXT (1 << 20)

static void fail(const char *what)
{
    fprintf(stderr, "llama-logits: %s\n", what);
    exit(1);
}

static void quiet(enum ggml_log_level level, const char *text, void *user)
{
    (void)user;
    if (level >= GGML_LOG_LEVEL_WARN || strstr(text, "offloaded") != NULL) {
        fputs(text, stderr);
    }
}

static int number(const char *text, int least, int most)
{
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < least || value > most) {
        fprintf(stderr, "llama-logits: %s is not a number from %d to %d\n", text, least, most);
        exit(2);
    }
    return (int)value;
}

static llama_token most_likely(const float *logits, int count)
{
    int best = 0;
    for (int i = 1; i < count; i++) {
        if (logits[i] > logits[best]) {
            best = i;
        }
    }
    return best;
}

/* -log of the probability of `token`. */
static double surprise(const float *logits, int count, llama_token token)
{
    double sum = 0;
    float most = logits[most_likely(logits, count)];
    for (int i = 0; i < count; i++) {
        sum += exp((double)logits[i] - most);
    }
    return log(sum) - ((double)logits[token] - most);
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: llama-logits MODEL LAYERS FLASH BATCH TOKENS LOGITS-FILE <TEXT\n");
        return 2;
    }
    int layers = number(argv[2], 0, 1000), flash = number(argv[3], 0, 1);
    int batch_size = number(argv[4], 1, 4096), more = number(argv[5], 0, 4096);
    static char text[MAX_TEXT];
    size_t length = fread(text, 1, sizeof text, stdin);
    if (length == 0 || length == sizeof text) {
        fail("the text is empty or too long");
    }

    llama_log_set(quiet, NULL);
    ggml_backend_load_all();
    llama_backend_init();
    printf("devices:");
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        printf(" %s", ggml_backend_dev_name(ggml_backend_dev_get(i)));
    }
    printf("\n");

    struct llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = layers;
    if (layers == 0) {
        /* The processor alone: no device, not even for long batches. */
        static ggml_backend_dev_t none[1] = { NULL };
        model_params.devices = none;
    }
    struct llama_model *model = llama_model_load_from_file(argv[1], model_params);
    if (model == NULL) {
        fail("the model does not load");
    }
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    int words = llama_vocab_n_tokens(vocab);
    int count = -llama_tokenize(vocab, text, (int)length, NULL, 0, true, false);
    llama_token *tokens = calloc((size_t)count + 1, sizeof *tokens);
    if (count <= 0 || tokens == NULL ||
        llama_tokenize(vocab, text, (int)length, tokens, count, true, false) != count) {
        fail("the text is not tokenized");
    }

    struct llama_context_params params = llama_context_default_params();
    params.n_ctx = (uint32_t)(count + more);
    params.n_batch = params.n_ubatch = (uint32_t)batch_size;
    params.flash_attn_type = flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    struct llama_context *context = llama_init_from_model(model, params);
    if (context == NULL) {
        fail("no context");
    }

    FILE *file = fopen(argv[6], "wb");
    if (file == NULL) {
        perror(argv[6]);
        return 1;
    }
    struct llama_batch batch = llama_batch_init(batch_size, 0, 1);
    double sum = 0;
    llama_token next = 0;
    for (int from = 0; from < count; from += batch_size) {
        int here = count - from < batch_size ? count - from : batch_size;
        batch.n_tokens = here;
        for (int i = 0; i < here; i++) {
            batch.token[i] = tokens[from + i];
            batch.pos[i] = from + i;
            batch.n_seq_id[i] = 1;
            batch.seq_id[i][0] = 0;
            batch.logits[i] = 1;
        }
        if (llama_decode(context, batch) != 0) {
            fail("a batch is not decoded");
        }
        for (int i = 0; i < here; i++) {
            const float *logits = llama_get_logits_ith(context, i);
            if (logits == NULL || fwrite(logits, sizeof *logits, (size_t)words, file) != (size_t)words) {
                fail("the logits are not written");
            }
            if (from + i + 1 < count) {
                sum += surprise(logits, words, tokens[from + i + 1]);
            }
            next = most_likely(logits, words);
        }
    }
    if (fclose(file) != 0) {
        fail("the logits are not written");
    }
    printf("tokens: %d\n", count);
    printf("perplexity: %.6f\n", count > 1 ? exp(sum / (count - 1)) : 0.0);
    printf("greedy:");
    for (int i = 0; i < more; i++) {
        printf(" %d", next);
        batch.n_tokens = 1;
        batch.token[0] = next;
        batch.pos[0] = count + i;
        batch.n_seq_id[0] = 1;
        batch.seq_id[0][0] = 0;
        batch.logits[0] = 1;
        if (llama_decode(context, batch) != 0) {
            fail("a token is not decoded");
        }
        next = most_likely(llama_get_logits_ith(context, 0), words);
    }
    printf("\n");
    llama_batch_free(batch);
    llama_free(context);
    llama_model_free(model);
    llama_backend_free();
    free(tokens);
    return 0;
}
