/**
 * Layers whose experts are spread over processes or machines.
 *
 * @module moe-kernels/parallel
 */
export { BankServer, type ServeOptions, serveBanks } from "./bank_server.js";
export { type ParallelForwardOptions, ParallelLayer } from "./parallel_layer.js";
export { type ConnectOptions, connectBanks, RemoteBank, RemoteBanks, type Traffic } from "./remote_banks.js";
