import fc from "fast-check";

/**
 * Properties draw the same cases in every run, so that a new failure is due to a change. `MOE_TEST_SEED=N` draws others,
 * and so does every seed of `npm run fuzz`.
 */
fc.configureGlobal({ seed: Number(process.env.MOE_TEST_SEED ?? 20261126) });
