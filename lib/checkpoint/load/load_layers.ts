import { reasonOf } from "../../core/device/cancellation.js";
import { attempt } from "../../core/input/foreign.js";
import type { Progress } from "./matrix_reader.js";

/** Progress of loading the layers of a model. */
export interface ModelProgress extends Progress {
  /** The layer that was just read from, or that is loaded. */
  layer: number;
  /** Layers that are done. */
  layersLoaded: number;
  /** Layers to load. */
  layersTotal: number;
}

/** How layers are loaded. */
interface LayerLoading<Layer> {
  readonly layers: readonly number[];
  readonly concurrency: number;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((progress: ModelProgress) => void) | undefined;
  /** Bytes that loading a layer reads. */
  bytes(layer: number): Promise<number>;
  load(layer: number, signal: AbortSignal, onProgress: (progress: Progress) => void): Promise<Layer>;
}

/**
 * Loads layers, some at a time and in order. If one fails, the others stop and are disposed of, and what made it fail is
 * thrown.
 */
export async function loadLayers<Layer extends Disposable>(
  loading: LayerLoading<Layer>,
): Promise<ReadonlyMap<number, Layer>> {
  const { layers, concurrency, signal } = loading;
  const report = await reporter(loading);
  const stop = new AbortController();
  const done = new AbortController();
  const cancel = () => stop.abort(reasonOf(signal as AbortSignal));
  attempt("signal", () => signal?.addEventListener("abort", cancel, { once: true, signal: done.signal }));
  const loaded = new Map<number, Layer>();
  const errors: unknown[] = [];
  const waiting = [...layers];
  const work = async () => {
    for (let layer = waiting.shift(); layer !== undefined; layer = waiting.shift()) {
      signal?.throwIfAborted();
      const number = layer;
      const onProgress = ({ bytesRead }: Progress) => report(number, bytesRead, loaded.size);
      loaded.set(number, await loading.load(number, stop.signal, onProgress));
      report(number, undefined, loaded.size);
    }
  };
  const workers = Array.from({ length: Math.min(concurrency, layers.length) }, async () => {
    try {
      await work();
    } catch (error) {
      errors.push(error);
      waiting.length = 0;
      stop.abort();
    }
  });
  await Promise.all(workers);
  done.abort();
  if (errors.length === 0) return new Map(layers.map((layer) => [layer, loaded.get(layer) as Layer]));
  for (const layer of loaded.values()) layer[Symbol.dispose]();
  // The later ones may only say that loading was stopped.
  throw errors[0];
}

/** Adds up what layers report. A layer that came from its cache has read nothing, and counts as read when it is there. */
async function reporter<Layer>({ layers, onProgress, bytes }: LayerLoading<Layer>) {
  if (onProgress === undefined) return () => {};
  const sizes = new Map<number, number>();
  for (const layer of layers) sizes.set(layer, await bytes(layer));
  const sum = (values: Iterable<number>) => [...values].reduce((total, size) => total + size, 0);
  const bytesTotal = sum(sizes.values());
  const read = new Map<number, number>();
  return (layer: number, bytesRead: number | undefined, layersLoaded: number) => {
    read.set(layer, bytesRead ?? (sizes.get(layer) as number));
    onProgress({ layer, layersLoaded, layersTotal: layers.length, bytesRead: sum(read.values()), bytesTotal });
  };
}
