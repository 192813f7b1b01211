// The page of the test: it does what an agent's page does, and says in its list what comes of it.
import { connect, reasonOf, watch } from "./client.js";

const { baseUrl, token, grpcWeb, email } = JSON.parse(decodeURIComponent(location.hash.slice(1)));

function say(what, text) {
  const item = document.createElement("li");
  item.id = what;
  item.textContent = text;
  document.getElementById("said").append(item);
}

const { blocks, interactions } = connect(baseUrl, token, { grpcWeb });
const interactionId = grpcWeb ? "from-grpc-web" : "from-connect";
try {
  const { exit } = await blocks.selectAccount({ interactionId, choice: { case: "useDefault", value: true } });
  const { interaction } = await interactions.getInteraction({ interactionId });
  say("called", `${exit} ${interaction.interactionId} ${interaction.account.accountId}`);
  await interactions.getInteraction({ interactionId: "nobody" }).catch((err) => say("failed", reasonOf(err)));
  await watch(interactions, email, {
    signal: new AbortController().signal,
    opened: () => say("watching", "the watch is open"),
    show: ({ interactionId, delivery }) => say("popped", `${interactionId} ${delivery.screenPop.url}`),
  });
} catch (err) {
  say("ended", `${reasonOf(err)}: ${err.message}`);
}
