/* Objects with virtual functions that the device makes, calls and deletes. */
#include "check.h"

struct Shape {
    __device__ virtual float area() const = 0;
    __device__ virtual int corners() const { return 0; }
    __device__ virtual ~Shape() {}
};

__device__ int deleted;

struct Circle : Shape {
    float radius;
    __device__ Circle(float r) : radius(r) {}
    __device__ float area() const override { return 3.0f * radius * radius; }
    __device__ ~Circle() override { atomicAdd(&deleted, 1); }
};

struct Box : Shape {
    float width, height;
    __device__ Box(float w, float h) : width(w), height(h) {}
    __device__ float area() const override { return width * height; }
    __device__ int corners() const override { return 4; }
    __device__ ~Box() override { atomicAdd(&deleted, 100); }
};

struct Named {
    __device__ virtual int name() const { return 7; }
    int pad;
};

struct Square final : Box, Named {
    __device__ Square(float w) : Box(w, w) {}
    __device__ int name() const override { return 8; }
};

__global__ void make(Shape **shapes, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    if (i % 3 == 0)
        shapes[i] = new Circle((float)i);
    else if (i % 3 == 1)
        shapes[i] = new Box((float)i, 2.0f);
    else
        shapes[i] = new Square((float)i);
}

__global__ void use(Shape **shapes, float *out, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= n)
        return;
    out[i * 2] = shapes[i]->area();
    out[i * 2 + 1] = shapes[i]->corners();
    if (i % 3 == 2) {
        Named *named = static_cast<Square *>(shapes[i]);
        out[i * 2 + 1] += 10 * named->name();
    }
}

__global__ void destroy(Shape **shapes, int n)
{
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        delete shapes[i];
}

int main()
{
    const int n = 100;
    Array<Shape *> shapes(n);
    Array<float> out(n * 2);
    make<<<2, 64>>>(shapes.device, n);
    use<<<2, 64>>>(shapes.device, out.device, n);
    destroy<<<2, 64>>>(shapes.device, n);
    out.get();
    for (int i = 0; i < n; i++) {
        float f = (float)i;
        equal("area", i, out[i * 2], i % 3 == 0 ? 3.0f * f * f : i % 3 == 1 ? f * 2 : f * f);
        equal("corners", i, out[i * 2 + 1], i % 3 == 0 ? 0.0f : i % 3 == 1 ? 4.0f : 84.0f);
    }
    int count;
    NEED(cudaMemcpyFromSymbol(&count, deleted, sizeof(count)));
    equal("deleted", 0, count, 34 + 66 * 100);
    return finish(__FILE__);
}
