/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/hypervisor/hypervisor.h"

#include <json-c/json.h>
#include <signal.h>
#include <string.h>

#include "lib/base/loop.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

struct fixture {
	struct loop *loop;
	struct hv_env env;
	struct hv_router *router;
	struct hypervisor *hv;
	struct hv_machine *m;
	char log[256]; /* a word a callback, in order */
	struct process_exit exit;
	enum err_code last;
	bool close_in_callback;
};

static void
note(struct fixture *f, const char *word)
{
	strcat(f->log, word);
	strcat(f->log, " ");
}

static void
on_event(void *arg, const struct hv_event *event)
{
	static const char *const words[] = { [HV_EV_SHUTDOWN] = "SHUTDOWN", [HV_EV_PAUSED] = "PAUSED",
		[HV_EV_RESUMED] = "RESUMED", [HV_EV_EXITED] = "EXITED" };
	struct fixture *f = arg;

	note(f, words[event->kind]);
	f->exit = event->exit;
}

static void
on_done(void *arg, const struct err *err)
{
	struct fixture *f = arg;

	f->last = err != NULL ? err->code : E_OK;
	note(f, err != NULL ? err_name(err->code) : "ok");
	if (f->close_in_callback) {
		f->close_in_callback = false;
		f->hv->ops->close(f->m);
		f->m = NULL;
	}
}

static void
setup(struct fixture *f)
{
	static const struct hv_config config = { .id = "1", .name = "m" };
	static const struct hv_propolis_config propolis = { .dataset = "rpool/vmm",
		.zvol_dir = "/nowhere", .zone_dir = "/nowhere", .control_link = "vmmstub0",
		.control_network = "fd76:6d6d::/64", .port = 12400, .server = "/nowhere/server" };

	memset(f, 0, sizeof(*f));
	f->loop = loop_create();
	f->env.loop = f->loop;
	f->env.propolis = &propolis;
	f->router = hv_router_create(&f->env);
	ck_assert_int_eq(hv_router_get(f->router, BACKEND_NOOP, &f->hv, NULL), 0);
	f->m = f->hv->ops->open(f->hv, &config, on_event, f);
}

static void
finish(struct fixture *f)
{
	if (f->m != NULL)
		f->hv->ops->close(f->m);
	loop_flush(f->loop);
	hv_router_destroy(f->router);
	loop_destroy(f->loop);
}

START_TEST(noop__whole_life__events_as_a_real_one)
{
	struct fixture f;
	const struct hv_ops *ops;

	setup(&f);
	ops = f.hv->ops;
	ops->prepare(f.m, NULL, on_done, &f);
	ops->launch(f.m, on_done, &f);
	ck_assert_str_eq(f.log, ""); /* never before the call returned */
	loop_flush(f.loop);
	ck_assert_int_eq(ops->state(f.m), HV_PRELAUNCH);
	ops->run(f.m, on_done, &f);
	ops->suspend(f.m, on_done, &f);
	ops->resume(f.m, on_done, &f);
	ops->ask_shutdown(f.m, on_done, &f);
	loop_flush(f.loop);
	ck_assert_int_eq(ops->state(f.m), HV_SHUTDOWN);
	ops->end(f.m, HV_QUIT, on_done, &f);
	loop_flush(f.loop);
	ck_assert_str_eq(f.log,
	    "ok ok ok RESUMED ok PAUSED ok RESUMED ok SHUTDOWN ok EXITED ");
	ck_assert(f.exit.known && !f.exit.signaled && f.exit.code == 0);
	ck_assert_int_eq(ops->state(f.m), HV_GONE);
	finish(&f);
}
END_TEST

START_TEST(noop__wrong_state__refused)
{
	struct fixture f;

	setup(&f);
	f.hv->ops->resume(f.m, on_done, &f);
	f.hv->ops->end(f.m, HV_KILL, on_done, &f);
	loop_flush(f.loop);
	ck_assert_str_eq(f.log, "wrong_state wrong_state ");
	finish(&f);
}
END_TEST

START_TEST(noop__runtime__adopted_by_another)
{
	struct fixture f, g;
	struct json_object *doc;

	setup(&f);
	f.hv->ops->launch(f.m, on_done, &f);
	doc = f.hv->ops->runtime(f.m);
	finish(&f);
	setup(&g);
	g.hv->ops->adopt(g.m, doc, on_done, &g);
	loop_flush(g.loop);
	ck_assert_int_eq(g.last, E_OK);
	ck_assert_int_eq(g.hv->ops->state(g.m), HV_RUNNING);
	json_object_object_add(doc, "boot_id", json_object_new_string("another boot"));
	g.hv->ops->adopt(g.m, doc, on_done, &g);
	loop_flush(g.loop);
	ck_assert_int_eq(g.last, E_NOT_FOUND);
	json_object_put(doc);
	finish(&g);
}
END_TEST

START_TEST(noop__close__pending_are_cancelled)
{
	struct fixture f;

	setup(&f);
	f.hv->ops->launch(f.m, on_done, &f);
	f.hv->ops->run(f.m, on_done, &f);
	f.close_in_callback = true;
	loop_flush(f.loop);
	ck_assert_str_eq(f.log, "ok cancelled ");
	finish(&f);
}
END_TEST

START_TEST(router__propolis__not_here_says_why)
{
	struct fixture f;
	struct hypervisor *hv = NULL;
	struct err err = ERR_INIT;

	setup(&f);
	ck_assert_int_eq(hv_router_get(f.router, BACKEND_PROPOLIS, &hv, &err), E_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(err.msg, "propolis"));
	ck_assert_str_ne(err.hint, "");
	ck_assert_ptr_null(hv);
	finish(&f);
}
END_TEST

START_TEST(router__spec__what_can_not_be_done_is_named)
{
	char name[] = "web";
	struct vm_spec spec = { .name = name };
	struct err err = ERR_INIT;
	struct fixture f;

	setup(&f);
	ck_assert_int_eq(hv_check_spec(f.hv, &spec, &err), 0);
	spec.network = (struct network_spec){ .present = true, .type = NETWORK_TAP };
	ck_assert_int_eq(hv_check_spec(f.hv, &spec, &err), E_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(err.msg, "'web' asks for network tap"));
	spec.network.type = NETWORK_NONE;
	ck_assert_int_eq(hv_check_spec(f.hv, &spec, &err), 0);
	spec.firmware.type = FIRMWARE_UEFI;
	ck_assert_int_eq(hv_check_spec(f.hv, &spec, &err), E_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(err.msg, "firmware uefi"));
	ck_assert_ptr_nonnull(strstr(err.hint, "'bios'"));
	finish(&f);
}
END_TEST

/* A backend like those of illumos: vnic and UEFI, and reasons of its own. */
static int
no_names(struct hypervisor *hv, const struct vm_spec *spec, struct err *err)
{
	return spec->network.name != NULL ? err_set(err, E_PARAMS, "no names") : 0;
}

static const struct hv_lack vnic_lacks[] = {
	{ HV_CAN_SUSPEND, "its server has no pause" },
	{ 0, NULL },
};
static const struct hv_ops vnic_ops = { .backend = BACKEND_PROPOLIS,
	.capabilities = HV_CAN_VNIC | HV_CAN_UEFI, .lacks = vnic_lacks, .check_spec = no_names };

START_TEST(router__complete__what_is_left_out_is_the_backends)
{
	struct hypervisor illumos = { .ops = &vnic_ops };
	struct vm_spec spec = { 0 };
	struct fixture f;

	setup(&f);
	hv_complete_spec(f.hv, &spec);
	ck_assert(!spec.network.present && spec.firmware.type == FIRMWARE_BIOS);
	spec.firmware.type = FIRMWARE_DEFAULT;
	hv_complete_spec(&illumos, &spec);
	ck_assert(spec.network.present && spec.network.type == NETWORK_VNIC);
	ck_assert_int_eq(spec.firmware.type, FIRMWARE_UEFI);
	finish(&f);
}
END_TEST

START_TEST(router__spec__bios_and_user_refused_where_they_are_not)
{
	struct hypervisor illumos = { .ops = &vnic_ops };
	char name[] = "web", link[] = "web0";
	struct vm_spec spec = { .name = name, .firmware = { .type = FIRMWARE_BIOS },
		.network = { .present = true, .type = NETWORK_VNIC } };
	struct err err = ERR_INIT;

	ck_assert_int_eq(hv_check_spec(&illumos, &spec, &err), E_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(err.msg, "firmware bios, which the backend 'propolis'"));
	ck_assert_ptr_nonnull(strstr(err.hint, "'uefi'"));
	spec.firmware.type = FIRMWARE_UEFI;
	ck_assert_int_eq(hv_check_spec(&illumos, &spec, &err), 0);
	spec.network.name = link;
	ck_assert_int_eq(hv_check_spec(&illumos, &spec, &err), E_PARAMS);
	spec.network = (struct network_spec){ .present = true, .type = NETWORK_USER };
	ck_assert_int_eq(hv_check_spec(&illumos, &spec, &err), E_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(err.hint, "'vnic'"));
	ck_assert_int_eq(hv_refuse(&vnic_ops, "web", HV_CAN_SUSPEND, &err), E_UNSUPPORTED);
	ck_assert_str_eq(err.msg, "the machine 'web' asks for suspend, which the backend 'propolis' "
				  "can not do: its server has no pause");
	ck_assert_str_eq(err.object, "web");
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("noop");

	UNIT_CASE(s, noop__whole_life__events_as_a_real_one);
	UNIT_CASE(s, noop__wrong_state__refused);
	UNIT_CASE(s, noop__runtime__adopted_by_another);
	UNIT_CASE(s, noop__close__pending_are_cancelled);
	UNIT_CASE(s, router__propolis__not_here_says_why);
	UNIT_CASE(s, router__complete__what_is_left_out_is_the_backends);
	UNIT_CASE(s, router__spec__bios_and_user_refused_where_they_are_not);
	UNIT_CASE(s, router__spec__what_can_not_be_done_is_named);
	return unit_main(s);
}
