// Widgets: forms and buttons that an agent shows. Their content is untrusted: it becomes texts, inputs and buttons only.

import { element, layOut, safeAddress } from "./dom.js";

const MOST = 500; // components of one widget

/** Returns a form for a widget; `submit` is called with the action and the fields of the form. */
export function widgetForm(surface, submit) {
  const components = new Map();
  for (const raw of Array.isArray(surface?.components) ? surface.components.slice(0, MOST) : []) {
    const component = readComponent(raw, components.size);
    components.set(component.id, component);
  }
  const children = new Set([...components.values()].flatMap((component) => component.children));
  const roots = [...components.values()].filter((component) => component.id === "root" || !children.has(component.id));
  const form = element("form", { class: "widget", "aria-label": "Widget" });
  const context = { components, model: surface?.dataModel, seen: new Set(), submit: (action) => submit(action, fields(form)) };
  form.append(...roots.map((component) => draw(component, context)));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.append(element("details", { class: "raw" }, element("summary", { text: "Widget as JSON" }),
    element("pre", { text: layOut(JSON.stringify(surface ?? null)) })));
  return form;
}

// Components are written in several ways: {id, Button: {…}}, {id, type: "button", …}, {id, component: {Button: {…}}}.
function readComponent(raw, index) {
  const { id = `component-${index}`, type, component, ...rest } = raw && typeof raw === "object" ? raw : {};
  let kind = type ?? component;
  let properties = rest;
  const nested = kind && typeof kind === "object" ? kind : kind ? null : rest;
  if (nested) {
    const name = Object.keys(nested).find((key) => nested[key] && typeof nested[key] === "object" && /^[A-Z]/.test(key));
    kind = name ?? "unknown";
    properties = name ? { ...rest, ...nested[name] } : rest;
  }
  const listed = properties.children?.explicitList ?? properties.children ?? properties.child ?? [];
  const children = (Array.isArray(listed) ? listed : [listed]).filter((each) => typeof each === "string");
  return { id: String(id), kind: String(kind).toLowerCase().replace(/[^a-z]/g, ""), properties, children, raw };
}

function valueOf(value, context) {
  if (value && typeof value === "object") {
    const literal = value.literalString ?? value.literal ?? value.literalNumber ?? value.literalBoolean;
    if (literal !== undefined) return String(literal);
    if (typeof value.path === "string") {
      let found = context.model;
      for (const part of value.path.split("/").filter(Boolean)) found = Object.hasOwn(Object(found), part) ? found[part] : undefined;
      return found === undefined ? "" : typeof found === "object" ? JSON.stringify(found) : String(found);
    }
    return JSON.stringify(value);
  }
  return value === undefined || value === null ? "" : String(value);
}

function draw(component, context) {
  if (context.seen.has(component.id)) return "";
  context.seen.add(component.id);
  const { kind, properties, children, id, raw } = component;
  const label = valueOf(properties.label ?? properties.text ?? properties.title ?? properties.content ?? properties.value, context);
  const inner = () => children.map((each) => context.components.get(each)).filter(Boolean).map((each) => draw(each, context));
  const name = typeof properties.name === "string" ? properties.name : id;
  switch (kind) {
    case "text": case "markdown": case "paragraph": case "label":
      return element("p", { text: label });
    case "title": case "heading": case "header":
      return element("h4", { text: label });
    case "divider":
      return element("hr");
    case "button": {
      const action = properties.action && typeof properties.action === "object" ? properties.action : {};
      const type = action.type ?? action.name ?? (typeof properties.action === "string" ? properties.action : id);
      const payload = action.payload ?? action.context;
      const texts = inner().map((each) => each.textContent ?? "").join(" ");
      const send = () => context.submit({ type: String(type), ...(payload === undefined ? {} : { payload }) });
      return element("button", { type: "button", class: "quiet", text: label || texts || id, on: { click: send } });
    }
    case "textfield": case "input": case "textinput": case "textarea": case "number": case "numberfield": case "date": case "datetimeinput": {
      const type = { number: "number", numberfield: "number", date: "date" }[kind] ?? "text";
      const value = valueOf(properties.value ?? properties.defaultValue, context);
      return element("label", {}, element("span", { text: valueOf(properties.label ?? properties.placeholder ?? name, context) }),
        kind === "textarea" ? element("textarea", { name, text: value, rows: 3 }) : element("input", { name, type, value }));
    }
    case "checkbox": case "switch": case "toggle":
      return element("label", { class: "check" }, element("input", { name, type: "checkbox", checked: properties.checked === true || properties.value === true }), label || name);
    case "select": case "choice": case "multiplechoice": case "dropdown": case "radio": case "radiogroup": {
      const options = Array.isArray(properties.options) ? properties.options : [];
      const choices = options.map((each) => element("option", {
        text: valueOf(each?.label ?? each?.value ?? each, context), value: valueOf(each?.value ?? each, context) }));
      return element("label", {}, element("span", { text: label || name }), element("select", { name }, ...choices));
    }
    case "image": {
      const address = safeAddress(valueOf(properties.url ?? properties.src, context));
      const text = valueOf(properties.alt, context) || address || "image";
      return address ? element("a", { href: address, rel: "noopener noreferrer nofollow", target: "_blank", text }) : element("span", { text });
    }
    case "row": case "column": case "card": case "list": case "box": case "form": case "container": case "stack":
      return element("div", { class: kind === "row" ? "across" : "down" }, ...(label && kind === "card" ? [element("h4", { text: label })] : []), ...inner());
    default:
      return element("div", { class: "down" }, element("pre", { text: layOut(JSON.stringify(raw ?? null)) }), ...inner());
  }
}

function fields(form) {
  const found = {};
  for (const input of form.querySelectorAll("input, textarea, select")) {
    found[input.name] = input.type === "checkbox" ? input.checked : input.type === "number" && input.value ? Number(input.value) : input.value;
  }
  return found;
}
