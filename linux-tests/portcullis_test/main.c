// SPDX-License-Identifier: GPL-2.0-only OR MIT
/*
 * Binds QEMU's edu device and creates files in its sysfs folder:
 *
  *   churn   write N: donate N ranges of pages and get them back before the write returns;
  *           several writers run at once; read: counters
  *   attack  write hyp or guest: donate a page to that owner and let the device access it;
  *           nvme or cpu: donate a page to EL2 and let the disk or the kernel access it;
  *           read: the results, one line each
  *   keep    write an address: donate pages at or above it permanently; read: which
 *   give    write an address: that page is donated to EL2 and returned
 *   assign  write a PCI address: that function is assigned to a guest
 *   back    write anything: the function is returned
 *   crash   write anything: a transfer to one of those pages is started, then a panic
 *
 * For tests of Portcullis under its reference hypervisor only.
 */
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "hypercalls.h"
#include "portcullis_test.h"

static bool hypervisor = true;
module_param(hypervisor, bool, 0444);
MODULE_PARM_DESC(hypervisor, "EL2 answers hypercalls (N: there is no EL2, HVC is undefined)");

struct below portcullis_below;

static int check_version(void)
{
	struct arm_smccc_res res;
	long answer;

	if (!hypervisor)
		return 0;
	answer = portcullis_call(PORTCULLIS_VERSION, 0, 0, 0, &res);
	if (answer != PORTCULLIS_SUCCESS || res.a1 >> 16 != PORTCULLIS_MAJOR) {
		pr_err("EL2 is not Portcullis with interface version %d\n", PORTCULLIS_MAJOR);
		return -ENODEV;
	}
	if (~res.a3 & (PORTCULLIS_HYP_PAGES | PORTCULLIS_GUEST_PAGES)) {
		pr_err("EL2 lacks the calls for pages\n");
		return -ENODEV;
	}
	portcullis_below = (struct below){ .present = true, .max_pages = res.a2 };
	return 0;
}

static ssize_t churn_store(struct device *dev, struct device_attribute *attr, const char *buf, size_t count)
{
	unsigned int rounds;
	int error = kstrtouint(buf, 0, &rounds);

	if (!error)
		error = churn(dev_get_drvdata(dev), rounds);
	return error ?: count;
}

static ssize_t churn_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct edu *edu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "VALUE transitions %lld\nVALUE transition_pages %lld\nVALUE transition_failures %lld\n",
			  atomic64_read(&edu->rounds), atomic64_read(&edu->pages),
			  atomic64_read(&edu->failures));
}
static DEVICE_ATTR_RW(churn);

static int attack(struct edu *edu, const char *by)
{
	int error = -EINVAL;

	mutex_lock(&edu->engine);
	edu->report_length = 0;
	if (sysfs_streq(by, "hyp"))
		error = attack_by_edu(edu, TO_HYP);
	else if (sysfs_streq(by, "guest"))
		error = attack_by_edu(edu, TO_GUEST);
	else if (sysfs_streq(by, "nvme"))
		error = attack_by_disk(edu);
	else if (sysfs_streq(by, "cpu"))
		error = attack_by_cpu(edu);
	mutex_unlock(&edu->engine);
	return error;
}

static ssize_t attack_store(struct device *dev, struct device_attribute *attr, const char *buf, size_t count)
{
	int error = attack(dev_get_drvdata(dev), buf);

	return error ?: count;
}

static ssize_t attack_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct edu *edu = dev_get_drvdata(dev);
	ssize_t length;

	mutex_lock(&edu->engine);
	length = sysfs_emit(buf, "%.*s", (int)edu->report_length, edu->report);
	mutex_unlock(&edu->engine);
	return length;
}
static DEVICE_ATTR_RW(attack);

static ssize_t keep_store(struct device *dev, struct device_attribute *attr, const char *buf, size_t count)
{
	struct edu *edu = dev_get_drvdata(dev);
	u64 least;
	int error = kstrtou64(buf, 0, &least);

	if (error)
		return error;
	mutex_lock(&edu->engine);
	edu->report_length = 0;
	error = keep(edu, least);
	mutex_unlock(&edu->engine);
	return error ?: count;
}
static struct device_attribute dev_attr_keep = __ATTR(keep, 0644, attack_show, keep_store);

static ssize_t give_store(struct device *dev, struct device_attribute *attr, const char *buf, size_t count)
{
	u64 address;
	int error = kstrtou64(buf, 0, &address);

	return error ?: give_and_take_back(address) ?: count;
}
static DEVICE_ATTR_WO(give);

static ssize_t assign_store(struct device *dev, struct device_attribute *attr, const char *buf, size_t count)
{
	struct edu *edu = dev_get_drvdata(dev);
	unsigned int domain, bus, slot, function;
	int error;

	if (sscanf(buf, "%x:%x:%x.%x", &domain, &bus, &slot, &function) != 4)
		return -EINVAL;
	mutex_lock(&edu->engine);
	error = function_give(edu, (u64)domain << 16 | bus << 8 | PCI_DEVFN(slot, function));
	mutex_unlock(&edu->engine);
	return error ?: count;
}
static DEVICE_ATTR_WO(assign);

static ssize_t back_store(struct device *dev, struct device_attribute *attr, const char *buf, size_t count)
{
	struct edu *edu = dev_get_drvdata(dev);
	int error;

	mutex_lock(&edu->engine);
	error = function_take_back(edu);
	mutex_unlock(&edu->engine);
	return error ?: count;
}
static DEVICE_ATTR_WO(back);

static ssize_t crash_store(struct device *dev, struct device_attribute *attr, const char *buf, size_t count)
{
	struct edu *edu = dev_get_drvdata(dev);
	int error;

	mutex_lock(&edu->engine);
	error = crash(edu);
	mutex_unlock(&edu->engine);
	return error ?: count;
}
static DEVICE_ATTR_WO(crash);

static struct attribute *edu_attrs[] = {
	&dev_attr_churn.attr,
	&dev_attr_attack.attr,
	&dev_attr_keep.attr,
	&dev_attr_give.attr,
	&dev_attr_assign.attr,
	&dev_attr_back.attr,
	&dev_attr_crash.attr,
	NULL,
};
ATTRIBUTE_GROUPS(edu);

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct edu *edu = devm_kzalloc(&pdev->dev, sizeof(*edu), GFP_KERNEL);
	int error;

	if (!edu)
		return -ENOMEM;
	error = pcim_enable_device(pdev);
	if (error)
		return error;
	error = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(40));
	if (error)
		return error;
	edu->registers = pcim_iomap(pdev, 0, 0);
	if (!edu->registers)
		return -ENOMEM;
	edu->pdev = pdev;
	mutex_init(&edu->engine);
	pci_set_drvdata(pdev, edu);
	pci_set_master(pdev);
	return 0;
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};

static struct pci_driver edu_driver = {
	.name = KBUILD_MODNAME,
	.id_table = edu_ids,
	.probe = edu_probe,
	.dev_groups = edu_groups,
};

static int __init portcullis_test_init(void)
{
	return check_version() ?: pci_register_driver(&edu_driver);
}
module_init(portcullis_test_init);

static void __exit portcullis_test_exit(void)
{
	pci_unregister_driver(&edu_driver);
}
module_exit(portcullis_test_exit);

MODULE_DESCRIPTION("Donates pages of a Linux host under Portcullis and lets a device access them");
MODULE_LICENSE("Dual MIT/GPL");
