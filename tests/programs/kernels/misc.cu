// Faults and long runs, for the tests of errors.
extern "C" __global__ void write_at(int *p, long long offset, int value)
{
    p[offset] = value;
}

extern "C" __global__ void spin(volatile int *stop)
{
    while (*stop == 0) {
    }
}

// Parameters of every size and alignment, by value.
struct Mixed {
    char a;
    short b;
    int c;
    long long d;
    float e[3];
    double f;
};

extern "C" __global__ void parameters(char a, Mixed m, short b, double c, int *p, unsigned char d, long long *out)
{
    out[0] = a;
    out[1] = m.a;
    out[2] = m.b;
    out[3] = m.c;
    out[4] = m.d;
    out[5] = (long long)(m.e[0] * 2 + m.e[1] * 3 + m.e[2] * 5);
    out[6] = (long long)(m.f * 4);
    out[7] = b;
    out[8] = (long long)(c * 8);
    out[9] = *p;
    out[10] = d;
}
