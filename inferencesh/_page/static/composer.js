// The message box: text, attached files with their progress, what is dropped or pasted.

import { byId, element } from "./dom.js";

/**
 * `send(text, attachments)` returns a promise of whether the message was accepted; `upload(file, progress, signal)` one of
 * an attachment, or fails with an error whose message is shown. The page has elements with the ids of this module.
 */
export class Composer {
  #upload;
  #files = new Set(); // {name, reference, control, row, failed}
  #send;

  constructor(send, upload) {
    this.#send = send;
    this.#upload = upload;
    const text = byId("text");
    text.addEventListener("input", () => this.#fit());
    text.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      byId("composer").requestSubmit();
    });
    text.addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (!files.length) return;
      event.preventDefault();
      files.forEach((file) => this.attach(file));
    });
    byId("attach").addEventListener("click", () => byId("file").click());
    byId("file").addEventListener("change", () => {
      [...byId("file").files].forEach((file) => this.attach(file));
      byId("file").value = "";
    });
    byId("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    this.#acceptDrops();
  }

  focus() {
    byId("text").focus();
  }

  async submit() {
    const text = byId("text").value.trim();
    const files = [...this.#files];
    if (byId("send").disabled || (!text && !files.some((each) => each.reference))) return;
    if (files.some((each) => !each.reference && !each.failed)) return; // still on their way
    const attachments = files.filter((each) => each.reference).map((each) => each.reference);
    byId("text").value = "";
    this.#fit();
    byId("attached").replaceChildren();
    this.#files.clear();
    if (!(await this.#send(text, attachments))) {
      byId("text").value = [text, byId("text").value].filter(Boolean).join("\n"); // nothing that was typed is lost
      this.#fit();
      files.forEach((each) => (this.#files.add(each), byId("attached").append(each.row)));
    }
  }

  async attach(file) {
    const control = new AbortController();
    const bar = element("progress", { max: 1, value: 0, "aria-label": `Upload of ${file.name}` });
    const state = element("span", { class: "soft", text: size(file.size) });
    const remove = element("button", { type: "button", class: "icon", "aria-label": `Remove ${file.name}`, text: "✕" });
    const row = element("li", {}, element("span", { class: "file-name", text: file.name }), state, bar, remove);
    const each = { control, row };
    remove.addEventListener("click", () => {
      control.abort();
      this.#files.delete(each);
      row.remove();
    });
    this.#files.add(each);
    byId("attached").append(row);
    try {
      each.reference = await this.#upload(file, (share) => (bar.value = share), control.signal);
      row.classList.add("uploaded");
    } catch (error) {
      each.failed = true;
      if (!control.signal.aborted) {
        state.textContent = error.message;
        row.classList.add("wrong");
      }
    } finally {
      bar.remove();
    }
  }

  #fit() {
    const text = byId("text");
    text.style.height = "auto";
    text.style.height = `${text.scrollHeight}px`;
  }

  #acceptDrops() {
    let depth = 0;
    const holdsFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    const show = (shown) => (byId("drop").hidden = !shown);
    document.addEventListener("dragenter", (event) => holdsFiles(event) && (event.preventDefault(), (depth += 1), show(true)));
    document.addEventListener("dragover", (event) => holdsFiles(event) && event.preventDefault());
    document.addEventListener("dragleave", (event) => holdsFiles(event) && (depth = Math.max(depth - 1, 0)) === 0 && show(false));
    document.addEventListener("drop", (event) => {
      if (!holdsFiles(event)) return;
      event.preventDefault();
      depth = 0;
      show(false);
      [...event.dataTransfer.files].forEach((file) => this.attach(file));
    });
  }
}

function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  return bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} KB` : `${(bytes / 1e6).toFixed(1)} MB`;
}
