// Greedy tokens of a model through node-llama-cpp's JavaScript API, on the GPU and on the processor, as one line of
// JSON: node node_llama.mjs MODEL cuda|false TOKENS TEXT
import {getLlama} from "node-llama-cpp";

const [file, gpu, count, text] = process.argv.slice(2);
// The prebuilt binary, or nothing: no build, no download.
const llama = await getLlama({
    gpu: gpu === "cuda" ? "cuda" : false, build: "never", skipDownload: true, usePrebuiltBinaries: true,
    maxThreads: 2
});
const model = await llama.loadModel({modelPath: file, gpuLayers: gpu === "cuda" ? "max" : 0});
const context = await model.createContext({contextSize: 256, batchSize: 128});
const sequence = context.getSequence();
const tokens = [];
for await (const token of sequence.evaluate(model.tokenize(text), {temperature: 0})) {
    tokens.push(token);
    if (tokens.length >= Number(count)) break;
}
console.log(JSON.stringify({
    gpu: llama.gpu,
    devices: llama.gpu ? await llama.getGpuDeviceNames() : [],
    layers: model.gpuLayers,
    trained: model.fileInfo?.metadata?.llama?.block_count ?? null,
    tokens
}));
await llama.dispose();
