// Programs written with the official JavaScript SDK; prints what each of them found as one JSON object.

import { inference, string, tool } from "@inferencesh/sdk";

const [baseUrl, apiKey] = process.argv.slice(2);
const STORY = "Tell me a story about a robot";
const SUM = "What's 42 * 17?";
const SCHEMA = { type: "object", properties: { title: { type: "string" } }, required: ["title"] };
const client = inference({ apiKey, baseUrl });

const calculator = (approval = false) => {
  const built = tool("calculator").describe("Compute").param("expression", string("The expression"));
  return (approval ? built.requireApproval() : built).build();
};
const helper = (config = {}) => client.agent({ name: "helper", ...config });
const textOf = (message) => message.content.filter((block) => block.type === "text").map((block) => block.text).join("");
const distinct = (values) => [...new Set(values)].sort();

async function finished(agent) {
  for (const end = Date.now() + 20_000; Date.now() < end; ) {
    const chat = await agent.getChat();
    if (chat.status === "idle") return chat;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error("The chat is still busy.");
}

async function toolCall(options) {
  const agent = helper({ tools: [calculator()] });
  const calls = [];
  const texts = [];
  await agent.sendMessage(SUM, {
    ...options,
    onMessage: (message) => texts.push(textOf(message)),
    onToolCall: async (call) => {
      calls.push({ name: call.name, args: call.args });
      await agent.submitToolResult(call.id, "714");
    },
  });
  agent.disconnect();
  return { calls, text: texts.at(-1) };
}

async function decided(decision) {
  const agent = helper({ tools: [calculator(true)] });
  const texts = [];
  let reason = null;
  await agent.sendMessage(SUM, {
    onChat: async (chat) => {
      const [interrupt] = chat.pending_interrupts ?? [];
      if (reason || !interrupt) return;
      reason = interrupt.reason;
      await client.agents.resolveInterrupt(interrupt.id, decision);
    },
    onMessage: (message) => texts.push(textOf(message)),
    onToolCall: (call) => agent.submitToolResult(call.id, "714"),
  });
  agent.disconnect();
  return { reason, text: texts.at(-1) };
}

const programs = {
  async message() {
    const agent = helper();
    const { userMessage, assistantMessage } = await agent.sendMessage("Hello");
    const chat = await finished(agent);
    return { sent: userMessage.status, status: assistantMessage.status, text: textOf(chat.chat_messages.at(-1)) };
  },
  async stream() {
    const agent = helper();
    const seen = [];
    await agent.sendMessage(STORY, { onMessage: (message) => seen.push(message) });
    const first = [...seen];
    await agent.sendMessage("Hello", { onMessage: (message) => seen.push(message) });
    agent.disconnect();
    return {
      several: first.length > 3,
      roles: distinct(first.map((message) => message.role)),
      statuses: distinct(first.map((message) => message.status)),
      story: textOf(first.at(-1)),
      again: seen.slice(first.length).some((message) => message.id === first.at(-1).id),
      same: textOf(seen.at(-1)) === textOf((await finished(agent)).chat_messages.at(-1)),
    };
  },
  async deltas() {
    const agent = helper();
    const outputs = [];
    await agent.sendMessage("Hello", { onDelta: (delta) => outputs.push(delta.output.response) });
    agent.disconnect();
    return { several: outputs.length > 3, text: outputs.at(-1) === textOf((await agent.getChat()).chat_messages.at(-1)) };
  },
  async poll() {
    const agent = helper();
    const seen = [];
    const options = { stream: false, pollIntervalMs: 50, onMessage: (message) => seen.push(message) };
    await agent.sendMessage("Good morning", options);
    const first = textOf(seen.at(-1));
    await agent.sendMessage("Hello", options);
    return { first, roles: distinct(seen.map((message) => message.role)), text: textOf(seen.at(-1)) };
  },
  tool_call: () => toolCall({}),
  tool_call_polled: () => toolCall({ stream: false, pollIntervalMs: 50 }),
  approve: () => decided("allow"),
  reject: () => decided("deny"),
  async output() {
    return { output: await helper({ output_schema: SCHEMA }).run("Name it", { pollIntervalMs: 50 }) };
  },
  async files() {
    const agent = helper();
    const files = [new File(["Buy milk."], "notes.txt", { type: "text/plain" }), new File(["GIF89a"], "photo.png")];
    const texts = [];
    await agent.sendMessage("What is this?", { files, onMessage: (message) => texts.push(textOf(message)) });
    agent.disconnect();
    return { text: texts.at(-1) };
  },
  async stop() {
    const agent = helper();
    const statuses = [];
    await agent.sendMessage(STORY, {
      onMessage: (message) => {
        if (!statuses.length) agent.stopChat();
        statuses.push(message.status);
      },
    });
    agent.disconnect();
    return { last: statuses.at(-1), state: (await agent.getChat()).active_run.state };
  },
  async chats() {
    const agent = helper();
    await agent.sendMessage("A message with a name of its own");
    await finished(agent);
    const filters = [{ field: "name", operator: "like", value: "A message with%" }];
    const list = (await client.chats.list({ limit: 5, filters })).data;
    const id = agent.currentChatId;
    const found = {
      listed: list.items.map((chat) => chat.id === id),
      searched: (await client.chats.list({ search: { term: "of its own" } })).data.items.length,
      short: (await client.chats.get(id.slice(0, 8))).data.id === id,
      status: (await client.chats.getStatus(id)).data.status,
      name: (await client.chats.update(id, { name: "Renamed" })).data.name,
      steps: (await client.chats.getTrace(id)).data.total_steps,
    };
    await client.chats.delete(id);
    return { ...found, left: (await client.chats.list({ filters })).data.items.length };
  },
  async events() {
    const agent = helper();
    await agent.sendMessage(STORY);
    const source = await client.chats.stream(agent.currentChatId);
    const names = await new Promise((resolve) => {
      const seen = [];
      for (const name of ["chats", "chat_messages", "delta"]) {
        source.addEventListener(name, () => seen.push(name) > 20 && resolve(distinct(seen)));
      }
    });
    source.close();
    return { names };
  },
  async refused() {
    const reasons = [];
    for (const ask of [() => client.agent("nobody").sendMessage("Hello"), () => client.flows.get("7")]) {
      await ask().catch((error) => reasons.push(error.message));
    }
    return { reasons };
  },
};

const found = {};
for (const [name, program] of Object.entries(programs)) {
  try {
    found[name] = await program();
  } catch (error) {
    found[name] = { failed: error.stack };
  }
}
process.stdout.write(JSON.stringify(found), () => process.exit(0));
