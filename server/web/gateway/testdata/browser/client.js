import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { BlockService } from "./gen/scenarioblocks/zendesk/v1/block_service_pb.js";
import { InteractionService } from "./gen/scenarioblocks/zendesk/v1/interaction_service_pb.js";

// connect makes the clients of a page.
export function connect(baseUrl, token, { grpcWeb = false } = {}) {
  const authorize = (next) => (req) => {
    req.header.set("Authorization", `Bearer ${token}`);
    return next(req);
  };
  const options = { baseUrl, interceptors: [authorize] };
  const transport = grpcWeb ? createGrpcWebTransport(options) : createConnectTransport(options);
  return { blocks: createClient(BlockService, transport), interactions: createClient(InteractionService, transport) };
}

// reasonOf is why a call has failed, as of the error table; undefined: the service was not reached.
export function reasonOf(err) {
  return ConnectError.from(err).findDetails(ErrorInfoSchema)[0]?.reason;
}

const refused = [Code.Unauthenticated, Code.PermissionDenied, Code.InvalidArgument];
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// watch shows each of an agent's pops once, whatever becomes of the connection, until the signal is aborted or the service refuses.
export async function watch(interactions, email, { show, opened = () => {}, signal }) {
  const seen = new Map();
  for (let pause = 1000; !signal.aborted; pause = Math.min(pause * 2, 30_000)) {
    try {
      for await (const pop of interactions.watchScreenPops({ agent: { email } }, { signal, onHeader: opened })) {
        pause = 500;
        if (seen.has(pop.delivery.deliveryId)) continue;
        seen.set(pop.delivery.deliveryId, Date.now());
        show(pop);
      }
    } catch (err) {
      if (signal.aborted) return;
      if (refused.includes(ConnectError.from(err).code)) throw err;
    }
    // Pops older than 30 s do not come again.
    for (const [id, at] of seen) if (Date.now() - at > 60_000) seen.delete(id);
    await sleep(pause * (0.5 + Math.random() / 2));
  }
}
